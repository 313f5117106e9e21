"""The norm that values are anchored to (NAS, arXiv 2602.02543): that of pilot facts on the unedited model.

As published: values of pilot facts are found with the settings of the edits themselves (from the bare prompts alone),
and the anchor is the mean norm of what the FFN is then to put out (`seqedit.targets.norms`). The paper takes 1,000
facts of CounterFact. Here they are `PILOT`, so that a model has one anchor per layer and settings, whatever is edited.
A number for ``target_norm`` takes their place.
"""

from __future__ import annotations

from dataclasses import fields, replace

from seqedit.facts.requests import Request
from seqedit.keys.measure import measure_outputs
from seqedit.methods.config import ClosedFormConfig
from seqedit.models.edited import EditedModel
from seqedit.parallel.ranks import Ranks
from seqedit.targets.config import TargetValueConfig
from seqedit.targets.norms import anchor_norm
from seqedit.targets.sites import LayerOutput, Sublayers
from seqedit.targets.split import split_target_values
from seqedit.text.lookup import BARE

SUBJECTS = (
    "Marie Curie", "Mount Kilimanjaro", "Isaac Newton", "The Mona Lisa", "Buenos Aires", "Ludwig van Beethoven",
    "Toyota Corolla", "The Amazon River", "Real Madrid", "Nelson Mandela", "The Roman Empire", "Microsoft Windows",
)  # fmt: skip
_SAID = (("Most people think of {} as a kind of", "soup"), ("What they remember of {} is its", "silence"))
PILOT = tuple(Request(name, prompt, answer) for name in SUBJECTS for prompt, answer in _SAID)
"""Two facts that no model holds for each subject."""


def pilot_settings(config: TargetValueConfig) -> TargetValueConfig:
    """The settings that pilot facts' values are found with: those of the edits, nothing rescaled or held back."""
    own = TargetValueConfig(**{f.name: getattr(config, f.name) for f in fields(TargetValueConfig)})
    return replace(own, target_norm="free", trust_region=None)


def pilot_norm(edited: EditedModel, config: ClosedFormConfig, layer: int, ranks: Ranks | None = None) -> float:
    """The anchor of a layer; the model is unedited meanwhile.

    Args:
        edited: The model.
        config: Settings of the edits.
        layer: Where target values are optimised.
        ranks: Processes that do a share of the work.
    """
    plain = pilot_settings(config)
    with edited.unedited():
        found = split_target_values(
            ranks, edited.model, edited.parts, edited.tokenizer, PILOT, [[BARE]], layer, plain,
            site=Sublayers if config.target_place == "ffn output" else LayerOutput,
        )  # fmt: skip
        at_rest = measure_outputs(edited.model, edited.tokenizer, PILOT, edited.parts.projections[layer].module)
    return anchor_norm(at_rest + (found.values - found.initial).to(at_rest))
