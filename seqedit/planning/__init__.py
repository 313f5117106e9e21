"""Before anything is written: keys that lie close, facts that contradict, batches that keep close keys together."""
