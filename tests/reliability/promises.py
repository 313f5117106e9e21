"""The promises, in the words of docs/measured/reliability.md."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Promise:
    """One row.

    Attributes:
        number: Its number.
        title: What is promised.
        asked: The figure that is asked for.
        how: How it is tested, and what is not.
        elsewhere: Further tests that belong to it.
    """

    number: int
    title: str
    asked: str
    how: str
    elsewhere: tuple[str, ...] = ()


PROMISES = (
    Promise(
        1,
        "Killed at any instant, the ledger is the old or the new one, and verify is clean",
        "Every file-system and database call of every writing command.",
        "A child process runs the command and dies by SIGKILL at its call N, for all N: every call that Python "
        "reports to its audit hooks (open, rename, mkdir, remove, SQLite connections), every fsync, every written "
        "file, every statement and commit. After each: old or new state, no damage, and the next command works. A "
        "kill that leaves the same bytes as an earlier one is not checked again. Between these calls SQLite makes "
        "system calls of its own; so a log of all system calls that change the directory (strace) is replayed up "
        "to each of them as well. Importing a bundle into a place without a ledger is two commits, so a ledger "
        "with the root alone may lie between; the import can be repeated. The same on PostgreSQL is tested at the "
        "statements only.",
        (
            "tests/ledger/test_crashes.py",
            "tests/ledger/database/test_postgresql.py",
            "tests/ledger/database/test_migrations.py",
        ),
    ),
    Promise(
        2,
        "Power loss damages nothing, and what was acknowledged stays",
        "No corruption in 10,000 random drops of unsynced writes.",
        "All system calls of 11 commands that change the directory are recorded with strace, SQLite's own "
        "included. A crash after a random one of them keeps what an fsync had made durable before; of all the rest "
        "a random part, in any order, writes torn at 512 bytes. An fsync of a file does not keep its name here, "
        "and one of a directory keeps the names in it only, which is harsher than the usual journalling file "
        "systems. Simulated, not tested on hardware: a disk that acknowledges an fsync and loses it breaks this "
        "promise, as it does for every database. SQLite's shared-memory index is left out, because it is made "
        "anew. A control without any fsync is found broken. Not covered: object stores elsewhere (SFTP, S3), which "
        "are as durable as their servers make them.",
    ),
    Promise(
        3,
        "One flipped byte or a truncation is found and the file named",
        "100 % of files and regions.",
        "For every kind of file of an object: every byte of header or text (up to 4,096), sampled bytes of the "
        "data; every truncation. In the SQLite file: the first bytes of every page and a sample of the rest. A "
        "flip there is found if verify or opening reports damage of the database, and harmless if every row reads "
        "as before (unused space, counters, names that SQLite only shows). **What falls short:** scores, reflog, "
        "signatures' times and the ledger's own description (base model's name, time of creation) stand beside the "
        "history and are covered by no digest, so a flip inside such a value, which still is a number or a text, "
        "goes unnoticed; the figure says how many did. A flip that changes any other row unnoticed fails the test.",
        ("tests/ledger/upkeep/test_verify.py",),
    ),
    Promise(
        4,
        "A missing, swapped, renamed or extra object is found",
        "100 %, distinct codes.",
        "Every object of a ledger, each of the alterations, shallow and deep; each gives its own code and the path.",
        ("tests/ledger/upkeep/test_verify.py",),
    ),
    Promise(
        5,
        "Concurrent writers lose nothing",
        "8 processes x 50 commits = 400 entries.",
        "Eight forked processes append at the same time; then the ledger has all 400 entries in one chain, each "
        "writer's in its order, every adapter active, and verify is clean. On SQLite and on a real PostgreSQL "
        "server.",
        ("tests/ledger/test_crashes.py",),
    ),
    Promise(
        6,
        "Readers never see half a write",
        "No torn read in 60 s.",
        "Readers open the ledger in a loop while writers append, revert, score and collect garbage: every read "
        "must be a chain that is complete, whose state composes from objects that are whole, with scores of one "
        "commit.",
    ),
    Promise(
        7,
        "A killed lock holder blocks nobody",
        "The next command works within 1 s.",
        "A process that holds the write lock in the middle of its transaction gets SIGKILL; another then opens the "
        "ledger and writes at once. The test asks for less than a second in the median: on a machine that is busy "
        "otherwise single commands take longer, and a lock that stays would make all of them wait a minute.",
    ),
    Promise(
        8,
        "Disk full, I/O error, short write: the old state, an exit code, no leftovers",
        "Old state, exit code not 0, no temporary files.",
        "Full disk: a tmpfs that is filled up to N KiB before the end, for growing N, where the superuser can "
        "mount one (else skipped). Short write: RLIMIT_FSIZE in a child, at growing limits. I/O error: each call "
        "of fsync and rename fails in turn. Each through the command line's entry point, whose exit code must be 3.",
    ),
    Promise(
        9,
        "In a read-only directory reading commands work and writing ones refuse clearly",
        "Every command.",
        "As a user without rights (a child gives up the superuser's): log, show, verify, gc --dry-run work on a "
        "directory without write permission; every writing command ends with exit code 3 and one line that names "
        "the database or the directory, and nothing changes.",
        ("tests/ledger/test_ledger.py",),
    ),
    Promise(
        10,
        "Names cannot escape the store",
        "0 writes outside.",
        "A corpus (`..`, absolute, NUL, backslash, very long, Unicode, links) and texts made by hypothesis, as "
        "digest, file name, branch, score name and member of a bundle; the tree outside is compared before and "
        "after. gc with links in the store follows none.",
        ("tests/ledger/objects/test_store.py",),
    ),
    Promise(
        11,
        "Pickle is never loaded",
        "0 paths.",
        "A payload that would leave a mark if it were unpickled lies as .bin, .pt, .pkl, .pth and under the "
        "product's own names in every place that is read: adapter directory, object, bundle, model directory (also "
        "as the only weights), second moments, hypernetwork. Besides, no module of the product names pickle, "
        "torch.load, joblib or marshal. What Python's own caches and third-party libraries do elsewhere is not "
        "covered.",
        ("tests/ledger/objects/test_store.py",),
    ),
    Promise(
        12,
        "Hostile safetensors end in a typed error",
        "Within 1 s and 200 MB.",
        "A corpus (100 MB header, header length beyond the file, overlap, overflow, holes, wrong dtype or shape, "
        "deep nesting, a million tensors, duplicate names, NaN) as each of an adapter's tensor files, read in a "
        "child process; its processor time and the growth of its peak memory are measured. Besides, random bytes "
        "in valid files (hypothesis). Model weights are read by transformers and are not covered.",
    ),
    Promise(
        13,
        "Identical content has an identical id",
        "One digest over 20 hash seeds.",
        "The same adapter and history in 20 processes with different PYTHONHASHSEED: one adapter digest, one entry "
        "id, identical files.",
    ),
    Promise(
        14,
        "Revert is exact",
        "Bit-equal weights.",
        "Random histories: after reverting entries the composed weights are compared bit for bit with those of a "
        "ledger that never had them, in float32, bfloat16 and float16; reverting the reverts gives the old bits "
        "back.",
        ("tests/ledger/test_ledger.py",),
    ),
    Promise(
        15,
        "The laws of the graph hold",
        "0 failures in 10,000.",
        "A hypothesis state machine does edits, swaps, merges, reverts, branches, resets, undos and garbage "
        "collections on a real ledger; after every step: what was active at any entry is what it was when the "
        "entry was made, a revert undoes exactly, verify is clean. The pure algebra is tested the same way without "
        "a database.",
        ("tests/ledger/history/test_graph.py",),
    ),
    Promise(
        16,
        "Verify reads all data, fast",
        ">= 500 MB/s; 1,000 entries in < 1 s without data.",
        "Objects of 64 MiB on a file system in memory, so that the figure is the program's and not the disk's, and "
        "processor time, so that it is not that of other programs; on an idle machine several objects are read at "
        "a time, so the clock shows more. 1,000 entries with `verify --shallow`. The ordinary suite tests a tenth "
        "of it.",
        ("tests/ledger/upkeep/test_verify.py",),
    ),
    Promise(
        17,
        "gc removes nothing reachable, is idempotent, survives a kill",
        "100 %.",
        "Random histories with branches, resets and deleted branches: what an independent search reaches is there "
        "afterwards and composes to the same bits, the rest is gone, a second gc finds nothing. Kills: row 1. "
        "Against a writer that has written its object and not yet its entry: the grace period, and without it a "
        "refusal.",
        ("tests/ledger/upkeep/test_gc.py",),
    ),
    Promise(
        18,
        "Old ledgers stay readable",
        "Every released format.",
        "Ledgers that earlier versions wrote are kept with the tests and read, verified and carried on.",
        ("tests/ledger/test_golden.py", "tests/ledger/database/test_migrations.py"),
    ),
    Promise(
        19,
        "No byte that decides what a model computes changes under a valid signature",
        "Every file, field and row.",
        "Every file of an object, every field of its configuration and every row of the database is flipped or forged "
        "under a signed state, snapshots and padding included, without a key: `verify --signers` finds each, and "
        "composing a signed ledger gives the signed weights or refuses. Refs are not signed; `--at-least` names the "
        "newest entry that is known. The model card is not compared.",
        ("tests/ledger/upkeep/test_forgery.py",),
    ),
    Promise(
        20,
        "A store belongs to its ledgers: gc of one removes nothing of another, and nothing that is not ours",
        "0 objects, 0 foreign files.",
        "Ledgers with one store in a directory, in memory, on SFTP, on SQLite and PostgreSQL, with adapters in common "
        "and apart; directories that are in use for something else as a new, an old and a forged store; a registered "
        "ledger that is missing, replaced, copied, reached by two ways; damaged markers and registrations; ledgers of "
        "released formats and shared stores of versions before there were markers.",
        ("tests/ledger/database/test_store_users.py",),
    ),
    Promise(
        21,
        "A run owns its branch",
        "Every writing method; exit code 3.",
        "While a session edits, reverts, swaps, merges or rebases, a second writer checks out another branch (nothing "
        "changes for the session), or appends to, resets or deletes its branch: nothing is recorded, weights in memory "
        "are those of the entry that the session knows, and a run ends with exit code 3 and resumes once the branch is "
        "back. Scores are recorded with the state that was scored.",
        ("tests/runs/test_owned_branch.py",),
    ),
    Promise(
        22,
        "A killed creation can be repeated",
        "By every command that makes ledgers.",
        "`Ledger.create` is killed before its transaction commits, on SQLite and PostgreSQL; then create, init, run "
        "and import make the ledger there. A half-written marker of a store elsewhere is written anew. Kills at every "
        "call: row 1.",
        ("tests/ledger/test_killed_create.py", "tests/ledger/database/test_store_users.py"),
    ),
    Promise(
        23,
        "Adapters, bundles and side files cost what their size says, and end in a typed error",
        "Memory and disk within a bound.",
        "Files that would unpack to far more than their size, and side files whose fields have other types than they "
        "should: seeded mutations of every field.",
        ("tests/adapters/test_malformed_adapters.py",),
    ),
    Promise(
        24,
        "No password is shown or written",
        "0 places.",
        "URLs with passwords in every spelling that is accepted, through messages, logs, JSON and what a store keeps "
        "of its ledgers.",
        ("tests/cli/test_passwords.py", "tests/ledger/database/test_store_users.py"),
    ),
    Promise(
        25,
        "Text of a ledger cannot steer a terminal, forge a line or become a formula",
        "0 characters.",
        "Control, bidirectional and line characters in every text, through every command that prints and every page "
        "and table that is written.",
        ("tests/cli/test_terminal.py", "tests/shipping/test_hostile_texts.py"),
    ),
    Promise(
        26,
        "Import takes time in proportion to what it imports",
        "Linear in the entries.",
        "Statements and reads are counted for bundles of two sizes.",
        ("tests/ledger/bundles/test_import_growth.py",),
    ),
    Promise(
        27,
        "Signers are checked before anything is imported",
        "Nothing written.",
        "Unsigned, foreign and older signed states are refused by import and pull before the ledger changes.",
        ("tests/ledger/bundles/test_signed_import.py", "tests/shipping/test_hub.py"),
    ),
    Promise(
        28,
        "Killed at random, whole commands lose nothing and are carried on to the same state",
        "50 seeded kills.",
        "init, run, edit, revert, merge, gc and import through the command line, on a small model, killed by SIGKILL "
        "at a random call that changes something or at a random moment. Afterwards verify is clean, and the command, "
        "or `run --resume`, leads to the adapters, scores, weights and objects of an undisturbed one.",
    ),
)
