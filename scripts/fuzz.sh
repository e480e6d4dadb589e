#!/bin/sh
# Fuzzes the native side (test/fuzz/README.md): builds what is older than its sources, and has each target run its corpus, then new inputs.
#
#   fuzz.sh SECONDS [TARGET…]   so long each, two at a time (0: the corpus alone); all of them where none is named
#   fuzz.sh merge [TARGET…]     what runs have found that the corpus lacks, as few files as show all of it, is put there
#   fuzz.sh coverage            what of native/ the corpus runs, in lines: the table is printed; fails below 95 %
set -eu
cd "$(dirname "$0")/.."
work=build/fuzz
targets='fast_path server cutter packet_socket'
# Inputs longer than that find nothing that these do not.
longest=600

what=${1:?usage: fuzz.sh SECONDS|merge|coverage …}
shift
if [ $# -gt 0 ]; then targets=$*; fi

if ! command -v clang >/dev/null 2>&1 || [ ! -e "$(clang -print-runtime-dir)/libclang_rt.fuzzer-$(uname -m).a" ]; then
  echo 'fuzzing takes clang and its libFuzzer (packages clang, libclang-rt-dev): scripts/install-deps.sh fuzz' >&2
  exit 1
fi

# build TARGET BINARY FLAGS…: with what it needs of native/. Alignment is not checked: x86 and arm64 load at any address, and BPF programs may.
build() {
  target=$1 binary=$2
  shift 2
  if [ -e "$binary" ] && [ -z "$(find test/fuzz native scripts/fuzz.sh -newer "$binary" -name '*.*' -not -path '*/corpus/*' -not -name '*.o')" ]; then return 0; fi
  mkdir -p "$(dirname "$binary")"
  if [ -e "test/fuzz/$target.c" ]; then
    clang -std=gnu11 -g -O1 -Wall -Wextra -Werror "$@" "test/fuzz/$target.c" -o "$binary"
  else
    clang++ -std=gnu++17 -g -O1 -Wall -Wextra -Werror "$@" "test/fuzz/$target.cc" native/cutter.cc native/checksum.cc -o "$binary"
  fi
}

sanitized='-fsanitize=fuzzer,address,undefined -fno-sanitize=alignment -fno-sanitize-recover=all'

# run TARGET SECONDS: what it says is shown where it fails, and the input is kept.
run() {
  found="$work/found/$1" log="$work/$1.log"
  mkdir -p "$found"
  more="-max_total_time=$2"
  if [ "$2" = 0 ]; then more=-runs=0; fi
  if "$work/$1" "$more" -max_len=$longest -timeout=20 -print_final_stats=1 -artifact_prefix="$work/$1-" "$found" "test/fuzz/corpus/$1" >"$log" 2>&1; then
    echo "$1: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs, no fault"
  else
    cat "$log" >&2
    echo "$1: a fault; its input is in $work/$1-*, and belongs into test/fuzz/corpus/$1 once it is mended" >&2
    return 1
  fi
}

# both COMMAND ARGUMENT…: COMMAND with each target and what follows it, two at a time; fails where one does.
both() {
  status=0 first=''
  for target in $targets; do
    "$1" "$target" "$2" &
    if [ -n "$first" ]; then wait "$first" || status=1; fi
    first=$!
  done
  wait "$first" || status=1
  return $status
}

build_sanitized() {
  # shellcheck disable=SC2086 # a list of words
  build "$1" "$work/$1" $sanitized
}

merge() {
  mkdir -p "$work/merged"
  rm -rf "$work/merged/$1"
  mkdir "$work/merged/$1"
  "$work/$1" -set_cover_merge=1 -use_counters=0 -max_len=$longest -artifact_prefix="$work/$1-" "$work/merged/$1" "test/fuzz/corpus/$1" "$work/found/$1" 2>&1 | tail -n 1
  # Files with a name were put there by hand, of faults that are mended.
  find "test/fuzz/corpus/$1" -regextype posix-extended -regex '.*/[0-9a-f]{40}' -delete
  cp "$work/merged/$1"/* "test/fuzz/corpus/$1/"
}

case $what in
  merge)
    both build_sanitized ''
    both merge ''
    ;;
  coverage)
    objects=''
    rm -rf "$work/coverage-of"
    mkdir -p "$work/coverage-of"
    for target in $targets; do
      build "$target" "$work/coverage/$target" -fprofile-instr-generate -fcoverage-mapping -fsanitize=fuzzer,address -fno-sanitize=alignment
      LLVM_PROFILE_FILE="$work/coverage-of/$target.profraw" "$work/coverage/$target" -runs=0 "test/fuzz/corpus/$target" >"$work/coverage-of/$target.log" 2>&1
      objects="$objects -object $work/coverage/$target"
    done
    llvm-profdata merge -o "$work/coverage-of/all" "$work"/coverage-of/*.profraw
    # shellcheck disable=SC2086 # a list of words
    llvm-cov report $objects -instr-profile="$work/coverage-of/all" -ignore-filename-regex='test/fuzz|/usr/|error\.h|fd\.h' -show-region-summary=false >"$work/coverage-of/table"
    cat "$work/coverage-of/table"
    # Of functions, lines and branches: how many, those missed, per cent.
    awk '$1 == "TOTAL" { lines = $7 } END { if (lines + 0 < 95) { print "the corpus runs less than 95 % of the lines of native/: " lines; exit 1 } }' "$work/coverage-of/table" >&2
    ;;
  *)
    both build_sanitized ''
    both run "$what"
    ;;
esac
