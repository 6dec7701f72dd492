# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""MIND in PaddleRec's contract: settings in, network, optimizer and the two forward passes out."""

from __future__ import annotations

import model_settings
import net
from capsules import InterestCapsules
from item_start import fill, nearly_orthogonal, transition_vectors
from model_settings import ABOVE_ZERO, AT_LEAST_ONE, BELOW_ONE, FROM_ZERO
from profiles import Profiles
from recall_model import RecallModel, as_tensor
from seen import SeenItems
from transitions import Transitions

# every setting, in the yaml's words, with the value taken when a yaml of PaddleRec's lacks it
DEFAULTS = {
    **model_settings.DEFAULTS,
    "hidden_size": 64,
    "pow_p": 1.0,
    "capsual.iters": 3,
    "capsual.max_k": 4,
    "capsual.init_std": 1.0,
    "capsual.routing_init": "item",
    "capsual.map_init": "identity",
    "capsual.recency": True,
    "capsual.dynamic_k": False,
    "context": True,
    "relu_layer": False,
    "attention": "max",
    "routing_penalty": 0.0,
    "transitions.weight": 0.0,
    "transitions.dropout": 0.0,
    "transitions.dim": 128,
    "seen.weight": 0.0,
    "seen.above": 0.3,
    "seen.dim": 256,
    "user_features": False,
}
LIMITS = {
    **model_settings.LIMITS,
    "pow_p": ABOVE_ZERO,
    "capsual.iters": AT_LEAST_ONE,
    "capsual.max_k": AT_LEAST_ONE,
    "capsual.init_std": ABOVE_ZERO,
    "capsual.routing_init": ("item", "position"),
    "capsual.map_init": ("identity", "normal"),
    "attention": ("max", "hard", "soft"),
    "routing_penalty": FROM_ZERO,
    "transitions.weight": FROM_ZERO,
    "transitions.dropout": BELOW_ONE,
    "transitions.dim": AT_LEAST_ONE,
    "seen.weight": FROM_ZERO,
    "seen.above": BELOW_ONE,
    "seen.dim": AT_LEAST_ONE,
}


class DygraphModel(RecallModel):
    """What a trainer and an evaluator call."""

    defaults = DEFAULTS
    limits = LIMITS
    _profiles = None

    def conflicts(self, read):
        """Interests are compared with items, so they are as wide; further parts go with cosines."""
        wrong = []
        if read["hidden_size"] != read["embedding_dim"]:
            wrong.append(
                f"hidden_size: {read['hidden_size']} (interests are compared with items, so it "
                f"equals embedding_dim: {read['embedding_dim']})"
            )
        wrong += [
            f"{name}: {read[name]} (beside cosines alone: it needs normalize: True)"
            for name in ("transitions.weight", "seen.weight")
            if read[name] and not read["normalize"]
        ]
        return wrong

    def create_model(self, config):
        """Build the network; ValueError says which settings cannot be used."""
        s = self.settings_of(config)
        profiles = self._profiles_of(config)
        return net.MIND(
            items=self.items_of(config, s),
            softmax=self.softmax_of(config, s),
            capsules=InterestCapsules(
                dim=s["embedding_dim"],
                max_k=s["capsual.max_k"],
                maxlen=s["maxlen"],
                iters=s["capsual.iters"],
                init_std=s["capsual.init_std"],
                routing_init=s["capsual.routing_init"],
                map_init=s["capsual.map_init"],
                recency=s["capsual.recency"],
                context=s["context"],
                dynamic_k=s["capsual.dynamic_k"],
                relu_layer=s["relu_layer"],
                weights_learn=s["routing_penalty"] > 0,
            ),
            attention=s["attention"],
            pow_p=s["pow_p"],
            dropout=s["dropout"],
            routing_penalty=s["routing_penalty"],
            profile_sizes=profiles.sizes if profiles else (),
            transitions=self._transitions_of(s),
            seen=self._seen_of(s),
        )

    def _transitions_of(self, s):
        """The part for what follows that settings ``s`` describe; None where its weight is 0."""
        if not s["transitions.weight"]:
            return None
        return Transitions(
            s["item_count"],
            s["transitions.dim"],
            s["maxlen"],
            s["emb_init_std"],
            s["transitions.weight"],
            s["transitions.dropout"],
        )

    def _seen_of(self, s):
        """The part for seen items that settings ``s`` describe; None where its weight is 0."""
        if not s["seen.weight"]:
            return None
        highest = 1.0 + s["transitions.weight"]  # score
        return SeenItems(
            s["item_count"], s["seen.dim"], s["seen.weight"], highest * s["seen.above"]
        )

    def start_from_clicks(self, dy_model, counts):
        """Fill the items' table, and those of further parts, from the training log."""
        super().start_from_clicks(dy_model, counts)
        if dy_model.transitions is not None:
            tables = dy_model.transitions.before_emb.weight, dy_model.transitions.after_emb.weight
            for table, vectors in zip(
                tables, transition_vectors(counts, tables[0].shape[1]), strict=True
            ):
                fill(table, vectors)
        if dy_model.seen is not None:
            table = dy_model.seen.emb.weight
            table.set_value(nearly_orthogonal(counts, table.numpy()))

    def infer_forward(self, dy_model, metrics_list, batch_data, config):
        """User vectors [B, K, D] and routing weights of ``[hist_item, seq_len, eval_item]``, then
        profiles if there are.
        """
        dy_model.eval()
        history, lengths = (as_tensor(part) for part in batch_data[:2])
        profiles = as_tensor(batch_data[3]) if len(batch_data) > 3 else None
        return dy_model(history, lengths, profiles=profiles)

    def freeze(self, dy_model):
        """Parameters change no more: what depends on them alone is computed once."""
        dy_model.capsual_layer.freeze()
        if dy_model.transitions is not None:
            dy_model.transitions.freeze()

    def user_profiles(self, users, config):
        """Codes [B, F] int64 of the profiles of ``users`` [B]; None where the setting is off."""
        profiles = self._profiles_of(config)
        return None if profiles is None else profiles(users)

    def _profiles_of(self, config):
        """The table of profiles, read once; None where the setting is off."""
        if not config.get("hyper_parameters.user_features", DEFAULTS["user_features"]):
            return None
        if self._profiles is None:
            self._profiles = Profiles(config)
        return self._profiles

    def adapt_state_dict(self, state):
        """PaddleRec's MIND keeps a bias of zeros that nothing trains: drop it."""
        bias = state.get("embedding_bias")
        if bias is not None and not bool((bias != 0).any()):
            state = {name: value for name, value in state.items() if name != "embedding_bias"}
        return state
