// node with-whmcs-mock.js COMMAND...: run a command, such as your tests, beside a whmcs-mock.
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { start } from "./whmcs-mock.js";

try {
  const [command, ...args] = process.argv.slice(2);
  const url = process.env.WHMCS_MOCK_URL ?? (await start("--profile", "live", "--quiet")).url;
  const child = spawn(command, args, { stdio: "inherit", env: { ...process.env, WHMCS_MOCK_URL: url } });
  process.once("exit", () => child.kill());
  child.once("error", (error) => {
    console.error(`cannot run ${command}: ${error.message}`);
    process.exit(127);
  });
  child.once("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
