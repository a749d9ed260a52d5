// Starts `fathom serve` with the demo model for the tests of this folder, and ends it.
import { spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
export const binary = process.env.FATHOM_BINARY ?? join(root, "build-test", "src", "apps", "fathom");
export const model = join(root, "models", "demo");

/** {url, stop()}; rejects with what the server said if it ends before it is ready. */
export function startServer(...flags) {
  const child = spawn(binary, ["serve", model, "--port", "0", "--served-model-name", "demo", ...flags],
    { stdio: ["ignore", "pipe", "pipe"] });
  const stop = () => new Promise((resolve) => {
    child.once("exit", resolve);
    child.kill("SIGKILL");
  });
  return new Promise((resolve, reject) => {
    let said = "";
    const hear = (bytes) => {
      said += bytes;
      const ready = /^ready on (\S+)$/m.exec(said);
      if (ready) resolve({ url: ready[1], stop });
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`fathom ended with ${code}: ${said}`)));
  });
}

/** Asks again until `condition` returns something true; a broken server is what makes it give up. */
export async function eventually(condition, what) {
  const end = Date.now() + 60000;
  for (;;) {
    const result = await condition();
    if (result) return result;
    if (Date.now() > end) throw new Error(`did not come true: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
