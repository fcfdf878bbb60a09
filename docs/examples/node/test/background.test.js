import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Billing } from "../billing.js";
import { WhmcsMock } from "../whmcs-mock.js";

const whmcs = new WhmcsMock("node-background"); // a world of this file
const billing = new Billing(whmcs.url);

beforeEach(() => whmcs.reset());

test("a call from a background job", async () => {
  await whmcs.add({ clients: [{ id: 7 }] });
  setTimeout(() => billing.addCredit(7, "5.00", "Bonus"), 50); // as a queue would
  const [call] = await whmcs.calls({ action: "AddCredit", clientid: 7, wait: 5 });
  assert.equal(call.params.amount, "5.00");
});
