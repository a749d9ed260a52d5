#!/bin/sh
# Writes a trained tokenizer.json with its ids (the text tests do that) and lets the Hugging Face tokenizers check them;
# then unchanged clients of OpenAI's API, and the page in a browser, against servers with the demo model.
set -eu
cd "$(dirname "$0")"
fixture=$(mktemp -d)
trap 'rm -rf "$fixture"' EXIT
FATHOM_FIXTURE_DIR=$fixture ../../build-test/tests/text_tests --gtest_filter='NpmFixture.*' --gtest_brief=1
node check_tokenizer.mjs "$fixture"
node --test --test-concurrency=1 clients.test.mjs page.test.mjs
