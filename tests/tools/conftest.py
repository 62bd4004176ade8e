"""Tools are scripts beside one another in a folder of their own, as `python tools/NAME.py` finds them."""

import importlib
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(scope="module")
def tool(request):
    """The tool that a file test_NAME.py is about."""
    sys.path.insert(0, str(TOOLS))
    try:
        yield importlib.import_module(Path(request.module.__file__).stem.removeprefix("test_"))
    finally:
        sys.path.remove(str(TOOLS))
