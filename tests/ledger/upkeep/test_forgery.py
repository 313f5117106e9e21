"""No byte that decides what a model computes can change under a valid signature.

The attacker of these tests can write everything, database and objects, digests and manifests included, and has no key.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from sqlalchemy import insert, update

from ledger import Code, Ledger
from ledger.database.schema import Meta, Objects
from ledger.objects.manifest import MANIFEST, Manifest
from ledger.states.snapshots import keys
from ledger.upkeep.signing import add_signatures, load_key, new_key, sign
from seqedit.adapters.adapter import Adapter
from seqedit.adapters.check import NEUTRAL
from seqedit.adapters.delta import Dense, LowRank
from seqedit.adapters.files import VALUES, WEIGHTS
from seqedit.errors import CheckFailed, InputError
from seqedit.facts.requests import Request
from seqedit.support.digests import tensors_digest
from tests.ledger.helpers import MODEL, SHAPES, TIME, build_adapter, build_base

pytest.importorskip("cryptography", reason="signatures need the package cryptography")


def mixed(seed: int) -> Adapter:
    """A dense delta, a low-rank one of rank 2, padded to the other's 5, keys and target values."""
    random = torch.Generator().manual_seed(seed)
    one, two = SHAPES
    deltas: dict[str, Any] = {
        one: Dense(torch.randn(5, 7, generator=random)),
        two: LowRank(torch.randn(5, 2, generator=random), torch.randn(2, 7, generator=random)),
    }
    return Adapter(
        deltas, (Request(f"subject {seed}", "{} is a", "x", relation="P31"),), {"name": "memit", "seed": seed}, MODEL,
        keys={two: torch.randn(1, 7, generator=random)}, target_values=torch.randn(1, 5, generator=random),
        provenance={"seed": seed},
    )  # fmt: skip


@pytest.fixture
def signed(tmp_path: Path) -> tuple[Path, str, str]:
    """A ledger with two entries and a revert, signed; its place, the public key, and a digest of its weights."""
    public = new_key(tmp_path / "key.pem")
    with Ledger.create(tmp_path / "ledger", MODEL, time=TIME) as ledger:
        for seed in range(3):
            ledger.append(mixed(seed), message=f"edit {seed}", time=TIME)
        ledger.revert("HEAD~1", time=TIME)
        with ledger.database.write() as connection:
            add_signatures(connection, [sign(ledger.head(), load_key(tmp_path / "key.pem"))])
        assert ledger.verify(signers=[public]) == []
        return tmp_path / "ledger", public, tensors_digest(ledger.compose(build_base()))


def forge(place: Path, change: Callable[[Path], None]) -> None:
    """Change the files of the first object, and make manifest and database agree with them."""
    with Ledger.open(place) as ledger:
        digest = ledger.entry("HEAD~1").adapter
        directory = place / "objects" / ledger.store.path(digest)
        change(directory)
        (directory / MANIFEST).unlink()
        manifest = Manifest.of_directory(digest, directory)
        (directory / MANIFEST).write_bytes(manifest.to_bytes())
        with ledger.database.write() as connection:
            for name, info in manifest.files.items():
                values = {"sha256": info.sha256, "size": info.size}
                where = (Objects.digest == digest, Objects.file == name)
                if connection.execute(update(Objects).where(*where).values(**values)).rowcount == 0:
                    connection.execute(insert(Objects), [{"digest": digest, "file": name, **values}])


def found(place: Path, public: str) -> set[str]:
    with Ledger.open(place) as ledger:
        return {str(problem.code) for problem in ledger.verify(signers=[public]) if problem.damage}


def refused_or_the_same(place: Path, weights: str) -> bool:
    """Composing a signed ledger gives the signed weights or none."""
    try:
        with Ledger.open(place) as ledger:
            return tensors_digest(ledger.compose(build_base())) == weights
    except (CheckFailed, InputError):
        return True


def json_change(name: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        data = json.loads((directory / name).read_text())
        change(data)
        (directory / name).write_text(json.dumps(data))

    return apply


OTHER: dict[str, Any] = {
    "base_model_name_or_path": "evil/model", "bias": "all", "fan_in_fan_out": True, "inference_mode": False,
    "init_lora_weights": "pissa", "lora_alpha": 1000, "lora_dropout": 0.5, "modules_to_save": ["lm_head"],
    "peft_type": "IA3", "r": 4, "target_modules": ["h.0.mlp"], "task_type": "SEQ_CLS", "use_dora": True,
    "use_rslora": True, "rank_pattern": {"h.0.mlp": 1}, "alpha_pattern": {"h.0.mlp": 99}, "layer_replication": [[0, 1]],
    "trainable_token_indices": [1], "auto_mapping": {"base_model_class": "X", "parent_library": "os"},
    "exclude_modules": ["h.0.mlp"], "layers_to_transform": [0], "layers_pattern": "h", "lora_bias": True,
    "use_qalora": True, "revision": "evil", "target_parameters": ["x"], "megatron_config": {"x": 1},
    "loftq_config": {"x": 1}, "eva_config": {"x": 1}, "corda_config": {"x": 1}, "arrow_config": {"x": 1},
    "not_known_to_anyone": None,
}  # fmt: skip


@pytest.mark.parametrize("field", OTHER)
def test_a_forged_field_of_the_configuration_that_peft_reads_is_found(signed, field):
    place, public, weights = signed
    forge(place, json_change("adapter_config.json", lambda config: config.update({field: OTHER[field]})))
    assert found(place, public) == {"adapter-digest-mismatch"}
    assert refused_or_the_same(place, weights)


def test_every_field_that_is_written_is_needed_and_has_its_type(tmp_path):
    mixed(1).save_pretrained(tmp_path / "a")
    file = tmp_path / "a" / "adapter_config.json"
    whole = json.loads(file.read_text())
    for field, value in whole.items():
        changes = [{k: v for k, v in whole.items() if k != field}]
        if isinstance(value, int | float):
            changes.append({**whole, field: int(value) if isinstance(value, bool) else float(value) + 0.5})
        for config in changes:
            file.write_text(json.dumps(config))
            with pytest.raises(InputError, match=f"field '{field}'"):
                Adapter.from_pretrained(tmp_path / "a")


def test_the_fields_that_pefts_versions_add_are_read_where_they_have_no_effect(tmp_path):
    from peft import LoraConfig

    adapter = build_adapter(1)
    adapter.save_pretrained(tmp_path / "a")
    file = tmp_path / "a" / "adapter_config.json"
    config = LoraConfig(**json.loads(file.read_text())).to_dict()
    config = {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
    assert set(config) - set(json.loads(file.read_text())) >= {"alpha_pattern", "use_qalora", "exclude_modules"}
    config.pop("runtime_config", None)  # PEFT does not write it
    file.write_text(json.dumps({**{name: values[0] for name, values in NEUTRAL.items()}, **config}, default=str))
    assert Adapter.from_pretrained(tmp_path / "a").digest == adapter.digest


@pytest.mark.parametrize("part", ["lora_A", "lora_B"])
@pytest.mark.parametrize("module", SHAPES)
def test_a_forged_number_anywhere_in_the_weights_padding_included_is_found(tmp_path, part, module):
    mixed(0).save_pretrained(tmp_path / "a")
    file = tmp_path / "a" / "adapter_model.safetensors"
    whole = load_file(file)
    name = f"base_model.model.{module}.{part}.weight"
    for place in range(whole[name].numel()):
        for forged in (3.5, -whole[name].view(-1)[place]):
            tensors = {key: tensor.clone() for key, tensor in whole.items()}
            tensors[name].view(-1)[place] = forged
            save_file(tensors, file)
            with pytest.raises(InputError):
                Adapter.from_pretrained(tmp_path / "a")


FILES: dict[str, Callable[[Path], None]] = {
    "padding": lambda d: _tensors(d / WEIGHTS, "h.1.mlp.lora_A", lambda t: t.index_fill(0, torch.tensor([4]), 7.0)),
    "the identity beside a dense delta": lambda d: _tensors(d / WEIGHTS, "h.0.mlp.lora_B", lambda t: 2 * t),
    "a delta": lambda d: _tensors(d / WEIGHTS, "h.0.mlp.lora_A", lambda t: 2 * t),
    "keys": lambda d: _tensors(d / VALUES, "keys", lambda t: t + 1),
    "keys of another type": lambda d: _tensors(d / VALUES, "keys", lambda t: t.double() + 1e-12),
    "target values": lambda d: _tensors(d / VALUES, "target", lambda t: t + 1),
    "kind of a module": json_change("seqedit.json", lambda s: s["modules"]["h.0.mlp"].update(kind="low_rank")),
    "rank of a module": json_change("seqedit.json", lambda s: s["modules"]["h.1.mlp"].update(rank=3)),
    "method": json_change("seqedit.json", lambda s: s["method"].update(seed=9)),
    "provenance": json_change("seqedit.json", lambda s: s["provenance"].update(seed=9)),
    "requests": json_change("seqedit.json", lambda s: s["requests"][0].update(target_new="y")),
    "fingerprint": json_change("seqedit.json", lambda s: s["base_model"].update(fingerprint="e" * 64)),
    "digest": json_change("seqedit.json", lambda s: s.update(digest="e" * 64)),
    "a field of the sidecar": json_change("seqedit.json", lambda s: s.update(further=1)),
    "a file that PEFT may read": lambda d: (d / "adapter_model.bin").write_bytes(b"x") and None,
    "the base model's name, everywhere": lambda d: (
        json_change("seqedit.json", lambda s: s["base_model"].update(name="evil/model"))(d),
        json_change("adapter_config.json", lambda c: c.update(base_model_name_or_path="evil/model"))(d),
    )[0],
}  # fmt: skip


def _tensors(file: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    tensors = load_file(file)
    key = next(key for key in tensors if name in key)
    save_file({**tensors, key: change(tensors[key]).contiguous()}, file)


@pytest.mark.parametrize("what", FILES)
def test_a_forged_file_of_a_signed_object_is_found_and_never_composed(signed, what):
    place, public, weights = signed
    forge(place, FILES[what])
    assert found(place, public) & {"adapter-digest-mismatch", "adapter-entry-mismatch", "extra-file"}
    assert refused_or_the_same(place, weights)


ROWS = {
    "the adapter of an entry": "UPDATE entries SET adapter = (SELECT adapter FROM entries WHERE message = 'edit 0') "
    "WHERE message = 'edit 2'",
    "the operation": "UPDATE entries SET operation = 'edit' WHERE operation = 'revert'",
    "the method": "UPDATE entries SET method = '{}' WHERE message = 'edit 2'",
    "the generation": "UPDATE entries SET generation = 9 WHERE message = 'edit 2'",
    "a parent": "UPDATE entry_parents SET parent = (SELECT id FROM entries WHERE operation = 'root') "
    "WHERE entry = (SELECT id FROM entries WHERE message = 'edit 2')",
    "the position of a parent": "UPDATE entry_parents SET position = 1 "
    "WHERE entry = (SELECT id FROM entries WHERE message = 'edit 2')",
    "what is reverted": "DELETE FROM entry_targets",
    "another target": "UPDATE entry_targets SET target = (SELECT id FROM entries WHERE message = 'edit 0')",
    "a fact": "UPDATE requests SET target_new = 'y'",
    "a fact's digest": "UPDATE requests SET fact_digest = subject_digest",
    "the order of facts": "UPDATE requests SET position = 5 WHERE subject = 'subject 2'",
    "the content": "UPDATE entries SET content = replace(content, 'edit 2', 'edit 3')",
    "the base model's fingerprint": "UPDATE meta SET value = 'e' WHERE key = 'base_fingerprint'",
    "the base model's name": "UPDATE meta SET value = 'evil/model' WHERE key = 'base_model'",
    "the signatures": "DELETE FROM signatures",
    "who signed": "UPDATE signatures SET key = substr(key, 2) || substr(key, 1, 1)",
    "what was signed": "UPDATE signatures SET entry = (SELECT id FROM entries WHERE message = 'edit 0')",
    "the branch": "UPDATE refs SET entry = (SELECT id FROM entries WHERE message = 'edit 0') WHERE name = 'main'",
    "head": "UPDATE refs SET symbolic = 'elsewhere' WHERE name = 'HEAD'",
    "the object's files": "UPDATE objects SET sha256 = replace(sha256, '0', '1')",
}


@pytest.mark.parametrize("what", ROWS)
def test_a_forged_row_under_a_signature_is_found(signed, what):
    place, public, weights = signed
    with Ledger.open(place) as ledger, ledger.database.write() as connection:
        connection.exec_driver_sql(ROWS[what])
    with Ledger.open(place) as ledger:
        assert any(problem.damage for problem in ledger.verify(signers=[public]))
    if what not in ("the branch", "the signatures", "what was signed", "who signed"):
        assert refused_or_the_same(place, weights)


def test_a_branch_put_back_with_its_log_is_found_by_the_newest_entry_that_is_known(signed):
    place, public, _ = signed
    with Ledger.open(place) as ledger:
        known = ledger.head()
        assert ledger.verify(signers=[public], at_least=known[:12]) == []
        ledger.reset("HEAD~1")
        assert ledger.verify(signers=[public]) == []
        assert [p.code for p in ledger.verify(signers=[public], at_least=known)] == [Code.ROLLED_BACK]
        with pytest.raises(InputError, match="12 digits"):
            ledger.verify(at_least=known[:8])


def plant(place: Path, number: float = 1000.0, **fields: Any) -> None:
    """Write a snapshot of HEAD's state that says what it likes, and its record."""
    with Ledger.open(place) as ledger:
        digests = [entry.adapter for entry in ledger.active()]
        name = keys([d for d in digests if d is not None])[-1]
        sums = {module: torch.full(shape, number, dtype=torch.float64) for module, shape in SHAPES.items()}
        data = save(sums)
        folder = place / "objects" / "snapshots"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.safetensors").write_bytes(data)
        record = {
            "sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "devices": dict.fromkeys(sums, "cpu"),
            "written": time.time(), **fields,
        }  # fmt: skip
        with ledger.database.write() as connection:
            connection.execute(insert(Meta), [{"key": f"snapshot:{name}", "value": json.dumps(record)}])


@pytest.fixture
def long(tmp_path: Path) -> tuple[Path, str, str]:
    """A signed ledger with a full group of adapters."""
    public = new_key(tmp_path / "key.pem")
    with Ledger.create(tmp_path / "long", MODEL, time=TIME) as ledger:
        for seed in range(65):
            ledger.append(build_adapter(seed), time=TIME)
        with ledger.database.write() as connection:
            add_signatures(connection, [sign(ledger.head(), load_key(tmp_path / "key.pem"))])
        return tmp_path / "long", public, tensors_digest(ledger.compose(build_base()))


@pytest.mark.parametrize("fields", [{}, {"entry": "0" * 64, "count": 64, "adapters": "0" * 64}])
def test_a_forged_snapshot_is_damage_and_a_signed_state_never_starts_from_it(long, fields):
    place, public, weights = long
    plant(place, **fields)
    with Ledger.open(place) as ledger:
        assert tensors_digest(ledger.compose(build_base())) == weights
        for signers in ([public], None):
            assert [p.code for p in ledger.verify(signers=signers) if p.damage] == [Code.FORGED_SNAPSHOT]


def test_a_ledger_that_is_opened_with_signers_composes_and_reads_only_what_they_vouch_for(signed):
    place, public, weights = signed
    with Ledger.open(place, signers={public: "me"}) as ledger:
        assert tensors_digest(ledger.compose(build_base())) == weights
        ledger.append(build_adapter(9), time=TIME)
        for use in (
            lambda: ledger.compose(build_base()),
            lambda: list(ledger.adapters()),
            lambda: ledger.adapter("HEAD"),
        ):
            with pytest.raises(CheckFailed, match="vouches"):
                use()
        assert tensors_digest(ledger.compose(build_base(), "HEAD~1")) == weights
