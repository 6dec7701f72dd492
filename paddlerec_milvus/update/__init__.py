# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""From clicks to a new model that serves, checked on the way, and back where it does worse."""
