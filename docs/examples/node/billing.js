// The code under test: what your project has in its place.
export class Billing {
  constructor(url, { timeout = 10_000, tries = 3 } = {}) {
    Object.assign(this, { url, timeout, tries });
  }

  async balance(clientid) {
    const { credits } = await this.call("GetCredits", { clientid });
    return (credits.credit ?? []).reduce((sum, { amount }) => sum + Number(amount), 0).toFixed(2);
  }

  async addCredit(clientid, amount, description) {
    return (await this.call("AddCredit", { clientid, amount, description })).newbalance;
  }

  async isPaid(invoiceid) {
    return (await this.call("GetInvoice", { invoiceid })).status === "Paid";
  }

  async call(action, params) {
    const body = new URLSearchParams({ ...params, action, responsetype: "json", identifier: "billing", secret: "s3cret" });
    let response;
    for (let tried = 0; tried < this.tries; tried++) {
      response = await fetch(this.url, { method: "POST", body, signal: AbortSignal.timeout(this.timeout) });
      if (![429, 502, 503, 504].includes(response.status)) break;
    }
    const answer = await response.json();
    if (answer.result !== "success") throw new Error(answer.message);
    return answer;
  }
}
