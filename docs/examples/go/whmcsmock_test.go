package billing

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// server is where whmcs-mock listens.
var server string

// TestMain starts a server for all tests, unless one runs at WHMCS_MOCK_URL.
func TestMain(m *testing.M) {
	stop := func() {}
	if server = strings.TrimSuffix(os.Getenv("WHMCS_MOCK_URL"), "/"); server == "" {
		var err error
		if server, stop, err = startWhmcsMock("--profile", "live", "--quiet"); err != nil {
			fmt.Fprintln(os.Stderr, "whmcs-mock did not start:", err)
			os.Exit(1)
		}
		interrupted := make(chan os.Signal, 1)
		signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
		go func() { <-interrupted; stop(); os.Exit(1) }()
	}
	code := m.Run()
	stop()
	os.Exit(code)
}

func startWhmcsMock(options ...string) (string, func(), error) {
	command := exec.Command("whmcs-mock", append([]string{"serve", "--port", "0"}, options...)...)
	command.Stderr = os.Stderr
	stdout, err := command.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := command.Start(); err != nil {
		return "", nil, err
	}
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	ready := regexp.MustCompile(`^whmcs-mock ready (\S+)/includes/api\.php`).FindStringSubmatch(line)
	if ready == nil {
		return "", nil, fmt.Errorf("it says why above (%v)", command.Wait())
	}
	return ready[1], func() { command.Process.Kill(); command.Wait() }, nil
}

// whmcsMock steers one world of the server: each has its own clients, faults and calls.
type whmcsMock struct {
	t    *testing.T
	base string
}

// newWhmcsMock gives a test a world of its own, and prints its calls if the test fails.
func newWhmcsMock(t *testing.T) *whmcsMock {
	name := regexp.MustCompile(`[^\w.-]`).ReplaceAllString(t.Name(), "-")
	mock := &whmcsMock{t, server + "/world/go-" + name}
	mock.send("POST", "reset", nil, nil)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(mock.report())
		}
	})
	return mock
}

// URL is the URL of the API, for the code under test.
func (m *whmcsMock) URL() string { return m.base + "/includes/api.php" }

// add adds what a fixture file can hold, in YAML or JSON.
func (m *whmcsMock) add(fixtures string) {
	m.t.Helper()
	m.send("POST", "fixtures", []byte(fixtures), nil)
}

type call struct {
	Action, Result string
	Status         int
	Params         map[string]string
}

// calls returns the calls that match; with "wait" it waits that many seconds until there is one.
func (m *whmcsMock) calls(filter url.Values) (calls []call) {
	m.t.Helper()
	m.send("GET", "calls?"+filter.Encode(), nil, &calls)
	return calls
}

// report says what came and how it was answered.
func (m *whmcsMock) report() string { return string(m.send("GET", "report", nil, nil)) }

func (m *whmcsMock) send(method, path string, body []byte, answer any) []byte {
	m.t.Helper()
	request, err := http.NewRequest(method, m.base+"/_mock/"+path, bytes.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		m.t.Fatal(err)
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	if response.StatusCode >= 400 {
		m.t.Fatalf("whmcs-mock: %s %s: %s", method, path, text)
	}
	if answer != nil {
		if err := json.Unmarshal(text, answer); err != nil {
			m.t.Fatal(err)
		}
	}
	return text
}
