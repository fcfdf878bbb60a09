// Starts and steers whmcs-mock from Node 20 or newer: copy this file to your tests.
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { createInterface } from "node:readline";

/** Start a server that stops with this process. Return its URL and a function that stops it. */
export async function start(...options) {
  const server = spawn("whmcs-mock", ["serve", "--port", "0", ...options], { stdio: ["ignore", "pipe", "inherit"] });
  const stop = () => server.kill();
  process.once("exit", stop); // the end, process.exit(), an uncaught error
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.once(signal, () => process.exit(128 + constants.signals[signal]));
  }
  const url = await new Promise((resolve, reject) => {
    server.once("error", (error) => {
      const missing = "the command whmcs-mock is missing: install it, and put its folder on the PATH";
      reject(error.code === "ENOENT" ? new Error(missing) : error);
    });
    server.once("exit", () => reject(new Error("whmcs-mock did not start; it says why above")));
    createInterface({ input: server.stdout }).on("line", (line) => {
      const ready = line.match(/^whmcs-mock ready (\S+)\/includes\/api\.php/);
      if (ready) resolve(ready[1]);
    });
  });
  return { url, stop };
}

/** Steer one world of a server: each has its own clients, faults and calls. */
export class WhmcsMock {
  constructor(world, server = process.env.WHMCS_MOCK_URL) {
    if (!server) throw new Error("WHMCS_MOCK_URL is not set: run the tests with npm test, which starts a server");
    this.base = `${server.replace(/\/$/, "")}/world/${world}`;
    this.url = `${this.base}/includes/api.php`; // for the code under test
  }

  /** Restore the fixtures; drop all calls and faults. */
  reset = () => this.#send("POST", "reset");

  /** Add what a fixture file can hold: clients, answers, faults, credentials. */
  add = (fixtures) => this.#send("POST", "fixtures", JSON.stringify(fixtures));

  /** The calls that match; with { wait: 5 } it waits up to 5 seconds until there is one. */
  calls = (filter = {}) => this.#send("GET", `calls?${new URLSearchParams(filter)}`);

  /** A client as it is now: its id, balance and credits. */
  client = async (id) => (await this.#send("GET", `clients/${id}`)).clients[0];

  /** The calls and their answers, as readable text. */
  report = () => this.#send("GET", "report");

  async #send(method, path, body) {
    const response = await fetch(`${this.base}/_mock/${path}`, { method, body });
    const text = await response.text();
    const answer = response.headers.get("Content-Type") === "application/json" ? JSON.parse(text) : text;
    if (!response.ok) throw new Error(`whmcs-mock: ${answer.error ?? text}`);
    return answer;
  }
}
