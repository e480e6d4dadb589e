#!/bin/sh
# `make demo`, then `install-deps.sh test`, where root.sh has it that nothing is installed.
#
# Exit: make's own, or that of install-deps.sh · 75 this host cannot have such a root; the last line says why
set -eu
cd "$(dirname "$0")/../.."
. test/bare/root.sh

# In root's own directory, which nobody else may enter: the strictest place.
mkdir "$root/root/lb4"
tar --exclude=./node_modules --exclude=./build --exclude=./dist --exclude=./.git -cf - . | tar -C "$root/root/lb4" -xf -

newcomer make -C /root/lb4 --no-print-directory demo

# What the tests need can be had, too: asked again, nothing is missing, and nothing is said.
newcomer /root/lb4/scripts/install-deps.sh test
echo 'asked again for what the tests need'
newcomer /root/lb4/scripts/install-deps.sh test
