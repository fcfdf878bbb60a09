import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Billing } from "../billing.js";
import { WhmcsMock } from "../whmcs-mock.js";

const whmcs = new WhmcsMock("node-retries"); // a world of this file
const billing = new Billing(whmcs.url);

beforeEach(() => whmcs.reset());

test("two calls during maintenance, and one after it", async () => {
  await whmcs.add({ clients: [{ id: 7 }], faults: [{ fault: "maintenance", times: 2 }] });
  assert.equal(await billing.balance(7), "0.00");
  assert.deepEqual((await whmcs.calls()).map((call) => call.status), [503, 503, 200]);
});
