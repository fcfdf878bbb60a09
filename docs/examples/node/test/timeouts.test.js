import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Billing } from "../billing.js";
import { WhmcsMock } from "../whmcs-mock.js";

const whmcs = new WhmcsMock("node-timeouts"); // a world of this file
const billing = new Billing(whmcs.url);

beforeEach(() => whmcs.reset());

test("a slow WHMCS is given up", async () => {
  await whmcs.add({ clients: [{ id: 7 }], faults: [{ fault: "slow", seconds: 5 }] });
  await assert.rejects(new Billing(whmcs.url, { timeout: 200 }).balance(7), { name: "TimeoutError" });
});
