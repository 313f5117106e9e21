"""MQuAKE and RippleEdits cases."""
