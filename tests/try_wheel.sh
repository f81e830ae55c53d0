# What a new user does first, with the package that is installed for an interpreter: `make wheel`.
set -eu
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
tests=$(cd "$(dirname "$0")" && pwd)
elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT
cd "$elsewhere" # where the source tree is not on the path

"$python" -c 'import skllmreg, sys; assert skllmreg.__file__.startswith(sys.prefix), skllmreg'
"$python" -m skllmreg demo --splits 2
"$python" -m pytest -q -c /dev/null --noconftest --import-mode=importlib \
    -k first_lines "$tests/test_readme.py"
"$python" -m pytest -q -c /dev/null --doctest-modules \
    -o doctest_optionflags="ELLIPSIS NORMALIZE_WHITESPACE" --pyargs skllmreg
