"""Keys K: FFN inputs at the lookup token over context templates."""
