# Sourced by tools/run and tools/test: makes .venv with the pinned dependencies, and the system libraries they need.
#
# Needs Python 3.11 or newer with venv, nothing else. What is installed is remembered in .venv/installed, so that the next
# start costs nothing until pyproject.toml or tools/constraints.txt changes. PYTHON chooses the interpreter.

set -euo pipefail

die() { echo "$0: $*" >&2; exit 2; }

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null || continue
    "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$candidate"; return; }
  done
  die "needs Python 3.11 or newer with venv (Debian and Ubuntu: apt-get install python3 python3-venv); PYTHON=/path/to/python chooses one"
}

# Headless OpenGL for camera renders (libEGL, libGL), glib for OpenCV, libusb for RealSense. The names are Debian's and
# Ubuntu's.
system_libraries() {
  "$1" - <<'PY'
import ctypes
for library, package in {"libEGL.so.1": "libegl1", "libGL.so.1": "libgl1", "libgthread-2.0.so.0": "libglib2.0-0",
                         "libusb-1.0.so.0": "libusb-1.0-0"}.items():
    try:
        ctypes.CDLL(library)
    except OSError:
        print(package)
PY
}

install_system_libraries() {
  [ "$(uname -s)" = Linux ] || return 0
  local missing; missing=$(system_libraries "$1" | tr '\n' ' ')
  [ -n "${missing// /}" ] || return 0
  local how="apt-get install -y --no-install-recommends libegl-mesa0 libgl1-mesa-dri $missing"
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "installing system libraries: $missing" >&2
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive $how -qq; } >/dev/null || echo "could not install $missing; try: $how" >&2
  else
    echo "missing system libraries: $missing(camera renders, OpenCV and RealSense need them); as root: $how" >&2
  fi
}

install_python_packages() {
  local want; want=$(cat pyproject.toml tools/constraints.txt | "$1" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest(), *sys.version_info[:2])')
  [ "$(cat .venv/installed 2>/dev/null)" = "$want" ] && return 0
  echo "installing Python packages into .venv (a minute or two, once)" >&2
  [ -x .venv/bin/python ] || "$1" -m venv .venv
  local pip=".venv/bin/python -m pip install --quiet --disable-pip-version-check"
  # torch first and pinned: an open range would fetch another build, of several gigabytes.
  $pip "$(grep '^torch==' tools/constraints.txt)"
  $pip -c tools/constraints.txt -e '.[learner,sim,bench,test,go2,ur,xarm,sphero,realsense]'
  echo "$want" > .venv/installed
}

python=$(find_python)
install_system_libraries "$python"
install_python_packages "$python"
export PATH="$PWD/.venv/bin:$PATH"
