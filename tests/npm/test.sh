#!/bin/sh
# Writes a trained tokenizer.json with its ids (the text tests do that) and lets the Hugging Face tokenizers check them;
# then unchanged clients of OpenAI's API, and the page in a browser, against servers with the demo model; and the pages
# of reports in a browser.
set -eu
cd "$(dirname "$0")"
fixture=$(mktemp -d)
trap 'rm -rf "$fixture"' EXIT
FATHOM_FIXTURE_DIR=$fixture ../../build-test/tests/text_tests --gtest_filter='NpmFixture.*' --gtest_brief=1
node check_tokenizer.mjs "$fixture"
FATHOM_SAMPLE_REPORT="$fixture/sample.html" ../../build-test/tests/report_tests \
  --gtest_filter='Report.IsWrittenWholeOrNotAtAll' --gtest_brief=1
export FATHOM_SAMPLE_REPORT="$fixture/sample.html"
node --test --test-concurrency=1 clients.test.mjs page.test.mjs report.test.mjs
