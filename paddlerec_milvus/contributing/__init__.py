# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
