import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Billing } from "../billing.js";
import { WhmcsMock } from "../whmcs-mock.js";

const whmcs = new WhmcsMock("node-add-credit"); // a world of this file
const billing = new Billing(whmcs.url);

beforeEach(() => whmcs.reset());

test("an added credit is in the log", async () => {
  await whmcs.add({ clients: [{ id: 7 }] });
  assert.equal(await billing.addCredit(7, "5.00", "Bonus"), "5.00");
  const { credits } = await whmcs.client(7);
  assert.deepEqual([credits[0].description, credits[0].amount], ["Bonus", "5.00"]);
});
