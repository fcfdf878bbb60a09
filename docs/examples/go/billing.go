// Package billing is the code under test: what your project has in its place.
package billing

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Client calls the API of a WHMCS.
type Client struct {
	URL  string
	HTTP http.Client
}

// Balance returns what a client has to its credit, in cents.
func (c *Client) Balance(clientid int) (int, error) {
	var answer struct{ Credits json.RawMessage }
	err := c.call(&answer, url.Values{"action": {"GetCredits"}, "clientid": {strconv.Itoa(clientid)}})
	if err != nil || string(answer.Credits) == `""` { // an empty list is an empty text in WHMCS
		return 0, err
	}
	var log struct{ Credit []struct{ Amount string } }
	if err := json.Unmarshal(answer.Credits, &log); err != nil {
		return 0, err
	}
	sum := 0.0
	for _, credit := range log.Credit {
		amount, _ := strconv.ParseFloat(credit.Amount, 64)
		sum += amount
	}
	return int(math.Round(sum * 100)), nil
}

// AddCredit adds to what a client has to its credit.
func (c *Client) AddCredit(clientid int, amount, description string) error {
	params := url.Values{"action": {"AddCredit"}, "clientid": {strconv.Itoa(clientid)}}
	params.Set("amount", amount)
	params.Set("description", description)
	return c.call(nil, params)
}

func (c *Client) call(answer any, params url.Values) error {
	params.Set("responsetype", "json")
	params.Set("identifier", "billing")
	params.Set("secret", "s3cret")
	for try := 1; ; try++ {
		response, err := c.HTTP.PostForm(c.URL, params)
		if err != nil {
			return fmt.Errorf("WHMCS does not answer: %w", err)
		}
		defer response.Body.Close()
		if response.StatusCode == http.StatusServiceUnavailable && try < 3 {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		var body json.RawMessage
		if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
			return fmt.Errorf("WHMCS does not answer with JSON: %w", err)
		}
		var told struct{ Result, Message string }
		if err := json.Unmarshal(body, &told); err != nil {
			return err
		}
		if told.Result != "success" {
			return errors.New(told.Message)
		}
		if answer == nil {
			return nil
		}
		return json.Unmarshal(body, answer)
	}
}
