// Compares a tokenizer.json that fathom wrote, and the ids that fathom gives for a corpus of strings, with the Hugging
// Face tokenizers for JavaScript: the same ids and the same decoded text for every string. Node 18 or later.
//
//   cd tests/npm && npm install --no-package-lock && npm test
//
// The folder holds tokenizer.json and cases.json ([{"text": "...", "ids": [...]}]; added tokens parsed, no BOS). Exit
// code 0 if all agree, 1 if not, 2 if it was called wrongly.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";

const folder = process.argv[2];
if (!folder) {
  console.error("usage: node check_tokenizer.mjs FOLDER (with tokenizer.json and cases.json)");
  process.exit(2);
}

const read = (name) => JSON.parse(readFileSync(join(folder, name), "utf8"));
const tokenizer = new Tokenizer(read("tokenizer.json"), {});
const cases = read("cases.json");
if (cases.length === 0) {
  console.error(`${folder}/cases.json has no cases`);
  process.exit(1);
}

let failures = 0;
const expectEqual = (what, text, got, expected) => {
  if (JSON.stringify(got) === JSON.stringify(expected)) return;
  failures += 1;
  if (failures <= 10) {
    console.error(`${what} of ${JSON.stringify(text)}:\n  got      ${JSON.stringify(got)}`);
    console.error(`  expected ${JSON.stringify(expected)}`);
  }
};
for (const { text, ids } of cases) {
  const encoded = Array.from(tokenizer.encode(text, { add_special_tokens: false }).ids, Number);
  expectEqual("ids", text, encoded, ids);
  if (ids.length === 0) continue; // the package refuses to decode nothing
  const decoded = tokenizer.decode(ids, { skip_special_tokens: false, clean_up_tokenization_spaces: false });
  expectEqual("text", text, decoded, text);
}

console.log(`${cases.length} strings compared, ${failures} differences`);
process.exit(failures === 0 ? 0 : 1);
