"""What makes a failure of learning visible: figures of one batch, and words for those that are clearly wrong.

One file per question, each a pure function from tensors to named scalars; `diagnosis` asks them all, `findings` says
which answers are alarming, and `watch` does both every so many updates. docs/diagnostics.md explains every figure.
"""
