#!/bin/sh
# Writes a trained tokenizer.json with its ids (the text tests do that) and lets the Hugging Face tokenizers check them.
set -eu
cd "$(dirname "$0")"
fixture=$(mktemp -d)
trap 'rm -rf "$fixture"' EXIT
FATHOM_FIXTURE_DIR=$fixture ../../build-test/tests/text_tests --gtest_filter='NpmFixture.*' --gtest_brief=1
node check_tokenizer.mjs "$fixture"
