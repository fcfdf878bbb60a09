package billing

import (
	"net/http"
	"net/url"
	"testing"
	"time"
)

func TestBalanceIsTheSumOfTheLog(t *testing.T) {
	t.Parallel()
	whmcs := newWhmcsMock(t)
	whmcs.add(`
clients:
  - id: 7
    credits:
      - {date: 2024-02-29, amount: 25.00}
      - {date: 2024-03-01, amount: -10.50}
`)
	client := Client{URL: whmcs.URL()}
	if balance, err := client.Balance(7); balance != 1450 || err != nil {
		t.Errorf("the balance is %d, and the error %v", balance, err)
	}
}

func TestClientWithoutCredits(t *testing.T) {
	t.Parallel()
	whmcs := newWhmcsMock(t)
	whmcs.add("clients: [{id: 7}]")
	client := Client{URL: whmcs.URL()}
	if balance, err := client.Balance(7); balance != 0 || err != nil {
		t.Errorf("the balance is %d, and the error %v", balance, err)
	}
}

func TestRetriesDuringMaintenance(t *testing.T) {
	t.Parallel()
	whmcs := newWhmcsMock(t)
	whmcs.add("clients: [{id: 7}]\nfaults: [{fault: maintenance, times: 2}]")
	client := Client{URL: whmcs.URL()}
	if err := client.AddCredit(7, "5.00", "Bonus"); err != nil {
		t.Error(err)
	}
	if calls := whmcs.calls(nil); len(calls) != 3 || calls[0].Status != 503 || calls[2].Status != 200 {
		t.Errorf("the calls are %v", calls)
	}
}

func TestGivesUpInTime(t *testing.T) {
	t.Parallel()
	whmcs := newWhmcsMock(t)
	whmcs.add("clients: [{id: 7}]\nfaults: [{fault: slow, seconds: 5}]")
	client := Client{URL: whmcs.URL(), HTTP: http.Client{Timeout: 200 * time.Millisecond}}
	if _, err := client.Balance(7); err == nil {
		t.Error("there is no error")
	}
}

func TestBackgroundJob(t *testing.T) {
	t.Parallel()
	whmcs := newWhmcsMock(t)
	whmcs.add("clients: [{id: 7}]")
	client := Client{URL: whmcs.URL()}
	go client.AddCredit(7, "5.00", "Bonus")
	calls := whmcs.calls(url.Values{"action": {"AddCredit"}, "clientid": {"7"}, "wait": {"5"}})
	if calls[0].Params["amount"] != "5.00" {
		t.Errorf("the calls are %v", calls)
	}
}
