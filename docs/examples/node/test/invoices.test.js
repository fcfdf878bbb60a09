import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Billing } from "../billing.js";
import { WhmcsMock } from "../whmcs-mock.js";

const whmcs = new WhmcsMock("node-invoices"); // a world of this file
const billing = new Billing(whmcs.url);

beforeEach(() => whmcs.reset());

test("an invoice gets paid", async () => {
  const sequence = ["Unpaid", "Paid"].map((status) => ({ result: "success", status }));
  await whmcs.add({ answers: [{ action: "GetInvoice", sequence }] });
  assert.equal(await billing.isPaid(8), false);
  assert.equal(await billing.isPaid(8), true);
});
