"""Data sets, joint transforms and procedural scenes."""
