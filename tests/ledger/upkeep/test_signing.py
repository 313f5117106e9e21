from __future__ import annotations

import stat
import subprocess

import pytest

from ledger import Ledger
from ledger.upkeep.signers import read_signers
from ledger.upkeep.signing import Signature, add_signatures, load_key, new_key, public_key, sign, signatures_of
from seqedit.errors import InputError
from tests.ledger.database.databases import alter
from tests.ledger.helpers import MODEL, TIME, build_adapter

pytest.importorskip("cryptography", reason="signatures need the package cryptography")


@pytest.fixture
def key(tmp_path):
    new_key(tmp_path / "key.pem")
    return load_key(tmp_path / "key.pem")


@pytest.fixture
def other(tmp_path):
    new_key(tmp_path / "other.pem")
    return load_key(tmp_path / "other.pem")


def add(ledger: Ledger, *signatures: Signature) -> int:
    with ledger.database.write() as connection:
        return add_signatures(connection, signatures)


def codes(ledger: Ledger, *keys) -> dict[str, str]:
    """Where -> code, of what the signers do not vouch for."""
    return {p.path.removeprefix("entries/"): str(p.code) for p in ledger.verify(False, [public_key(k) for k in keys])}


class TestKeys:
    def test_a_new_key_is_its_owners_alone_and_reads_back(self, tmp_path):
        public = new_key(tmp_path / "key.pem")
        assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
        assert public_key(load_key(tmp_path / "key.pem")) == public

    def test_a_file_is_never_overwritten_by_a_key(self, tmp_path):
        (tmp_path / "key.pem").write_text("precious")
        with pytest.raises(InputError, match="exists"):
            new_key(tmp_path / "key.pem")
        assert (tmp_path / "key.pem").read_text() == "precious"

    def test_keys_of_openssh_work_private_and_public(self, tmp_path):
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

        made = Ed25519PrivateKey.generate()
        (tmp_path / "id").write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        line = made.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        (tmp_path / "signers").write_text(f"# team\n\n{line} ada@example\n")
        assert read_signers(tmp_path / "signers") == {public_key(load_key(tmp_path / "id")): "ada@example"}

    @pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN OPENSSH PRIVATE KEY-----\nxx\n"])
    def test_what_is_no_key_is_an_input_error(self, tmp_path, content):
        (tmp_path / "key").write_bytes(content)
        with pytest.raises(InputError, match="key"):
            load_key(tmp_path / "key")
        with pytest.raises(InputError, match="sign --new-key"):
            load_key(tmp_path / "missing")

    def test_other_kinds_of_keys_and_locked_keys_are_refused(self, tmp_path):
        from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import (
            BestAvailableEncryption,
            Encoding,
            NoEncryption,
            PrivateFormat,
        )

        curve = generate_private_key(SECP256R1())
        (tmp_path / "ec").write_bytes(curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with pytest.raises(InputError, match="another kind of key"):
            load_key(tmp_path / "ec")
        locked = Ed25519PrivateKey.generate()
        secret = BestAvailableEncryption(b"secret")
        (tmp_path / "locked").write_bytes(locked.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
        with pytest.raises(InputError, match="passphrase"):
            load_key(tmp_path / "locked")

    @pytest.mark.parametrize(
        "text", ["", "# nobody\n", "xyz\n", "ssh-ed25519\n", "ssh-ed25519 AAAA\n", "ssh-rsa AAAA\n"]
    )
    def test_a_signers_file_names_the_line_that_is_wrong(self, tmp_path, text):
        (tmp_path / "signers").write_text(text)
        with pytest.raises(InputError, match="names no key" if "#" in text or not text else "line 1"):
            read_signers(tmp_path / "signers")


class TestVouching:
    def test_a_signed_entry_vouches_for_all_before_it_and_for_nothing_after(self, filled, key):
        add(filled, sign(filled.entry("HEAD~1").id, key))
        assert codes(filled, key) == {filled.head(): "unsigned-entry"}
        add(filled, sign(filled.head(), key))
        assert codes(filled, key) == {}
        assert filled.verify() == []

    def test_every_branch_must_be_vouched_for(self, filled, key):
        add(filled, sign(filled.head(), key))
        filled.start_branch("other", "HEAD~1")
        assert codes(filled, key) == {}
        entry = filled.append(build_adapter(7), branch="other")
        assert codes(filled, key) == {entry.id: "unsigned-entry"}

    def test_a_merge_vouches_for_the_branches_it_joins(self, filled, key):
        filled.start_branch("other", "HEAD~1")
        other = filled.append(build_adapter(7), branch="other")
        merged = filled.append(build_adapter(8), operation="merge", targets=["HEAD"], others=[other.id], branch="main")
        add(filled, sign(merged.id, key))
        assert codes(filled, key) == {}

    def test_a_key_that_is_not_among_the_signers_counts_for_nothing(self, filled, key, other):
        add(filled, sign(filled.head(), other))
        assert set(codes(filled, key).values()) == {"unknown-signer", "unsigned-entry"}
        assert codes(filled, key)[filled.head()] == "unknown-signer"
        assert codes(filled, key, other) == {}

    def test_a_signature_of_another_entry_does_not_hold(self, filled, key):
        true = sign(filled.entry("HEAD~1").id, key)
        add(filled, Signature(filled.head(), true.key, true.signature, TIME))
        assert codes(filled, key)[filled.head()] in ("invalid-signature", "unsigned-entry")
        assert "invalid-signature" in {p.code for p in filled.verify(False, [public_key(key)])}

    def test_a_flipped_bit_of_a_signature_is_found(self, filled, key):
        good = sign(filled.head(), key)
        forged = ("0" if good.signature[0] != "0" else "1") + good.signature[1:]
        add(filled, Signature(filled.head(), good.key, forged, TIME))
        assert "invalid-signature" in {p.code for p in filled.verify(False, [public_key(key)])}

    def test_a_rewritten_history_with_right_ids_is_found_by_its_signers_only(self, filled, key, tmp_path):
        """The attacker rewrites everything, new ids included, and copies the signatures over."""
        with Ledger.create(tmp_path / "forged", MODEL, time=TIME) as forged:
            forged.append(build_adapter(666), message="edit 0", time=TIME)
            add(forged, Signature(forged.head(), public_key(key), sign(filled.head(), key).signature, TIME))
            assert forged.verify() == []
            assert {p.code for p in forged.verify(signers=[public_key(key)]) if p.damage} == {
                "invalid-signature",
                "unsigned-entry",
            }

    def test_a_malformed_signature_is_damage_without_signers_too(self, filled, key):
        add(filled, sign(filled.head(), key))
        alter(filled, "UPDATE signatures SET signature = 'zz'")
        assert [p.code for p in filled.verify()] == ["invalid-signature"]

    def test_a_ledger_signs_its_entries_and_says_what_is_new(self, filled, key):
        head = filled.head()
        assert filled.sign("HEAD", key, dry_run=True)[1]
        assert codes(filled, key), "a dry run stores nothing"
        signature, new = filled.sign("HEAD", key)
        assert (signature.entry, new) == (head, True)
        assert filled.sign("HEAD", key)[1] is False
        assert filled.sign("HEAD", key, dry_run=True)[1] is False
        assert codes(filled, key) == {}

    def test_signing_twice_is_signing_once(self, filled, key, other):
        assert add(filled, sign(filled.head(), key)) == 1
        assert add(filled, sign(filled.head(), key), sign(filled.head(), other)) == 1
        with filled.database.read() as connection:
            assert {s.key for s in signatures_of(connection, [filled.head()])} == {public_key(key), public_key(other)}

    @pytest.mark.parametrize(
        "fields", [("x", "a" * 64, "b" * 128), ("a" * 64, "A" * 64, "b" * 128), ("a" * 64, "a" * 64, "b" * 127)]
    )
    def test_what_cannot_be_a_signature_is_refused(self, fields):
        with pytest.raises(InputError):
            Signature(*fields, TIME)


def test_openssl_agrees_that_the_signature_holds(filled, key, tmp_path):
    """An independent implementation, and the format as the documentation states it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    signature = sign(filled.head(), key)
    (tmp_path / "public.pem").write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    (tmp_path / "message").write_bytes(f"seqedit entry 1 {filled.head()}".encode())
    (tmp_path / "signature").write_bytes(bytes.fromhex(signature.signature))
    command = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        "public.pem",
        "-rawin",
        "-in",
        "message",
        "-sigfile",
        "signature",
    ]
    try:
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    assert result.returncode == 0, result.stdout + result.stderr
