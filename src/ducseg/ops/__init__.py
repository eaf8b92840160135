"""The paper itself: DUC, HDC and receptive fields, in plain torch."""
