import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Billing } from "../billing.js";
import { WhmcsMock } from "../whmcs-mock.js";

const whmcs = new WhmcsMock("node-balance"); // a world of this file
const billing = new Billing(whmcs.url);

beforeEach(() => whmcs.reset());

test("the balance is the sum of the log", async () => {
  const credits = [
    { date: "2024-02-29", amount: "25.00" },
    { date: "2024-03-01", amount: "-10.50" },
  ];
  await whmcs.add({ clients: [{ id: 7, credits }] });
  assert.equal(await billing.balance(7), "14.50");
});

test("an unknown client", async () => {
  await assert.rejects(billing.balance(7), { message: "Client ID Not Found" });
});
