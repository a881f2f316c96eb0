//go:build ignore

// Go, with net/http alone: prints the access token.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

// answer is what bursar says, be it a grant or a refusal.
type answer struct {
	AccessToken      string `json:"access_token"`
	Stale            bool   `json:"stale"`
	Error            string `json:"error"`
	ErrorDescription string `json:"error_description"`
	Remedy           string `json:"remedy"`
}

func main() {
	socket := os.Getenv("BURSAR_SOCKET")
	if socket == "" {
		socket = "/run/bursar/bursar.sock"
	}
	bursar := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	said, err := token(bursar, 30*time.Second)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if said.Stale {
		// It serves as any other; but if the provider stays down, there will be none after it.
		fmt.Fprintln(os.Stderr, "the provider fails now, and this token is not renewed: it is stale")
	}
	fmt.Println(said.AccessToken)
}

// token asks, and waits as bursar says: no longer than patience in all.
func token(bursar *http.Client, patience time.Duration) (*answer, error) {
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"charges:read"}}
	for {
		reply, err := bursar.PostForm("http://localhost/token/stripe", form)
		if err != nil {
			return nil, err
		}
		var said answer
		err = json.NewDecoder(reply.Body).Decode(&said)
		reply.Body.Close()
		if err != nil {
			return nil, err
		}
		if reply.StatusCode == http.StatusOK {
			return &said, nil
		}
		wait := retryAfter(reply)
		patience -= wait
		// No token now: bursar says when to ask again.
		waits := reply.StatusCode == http.StatusServiceUnavailable || reply.StatusCode == http.StatusTooManyRequests
		if !waits || patience < 0 {
			return nil, fmt.Errorf("%s: %s; %s", said.Error, said.ErrorDescription, said.Remedy)
		}
		time.Sleep(wait)
	}
}

func retryAfter(reply *http.Response) time.Duration {
	seconds, err := strconv.Atoi(reply.Header.Get("Retry-After"))
	if err != nil {
		seconds = 1
	}
	return time.Duration(seconds) * time.Second
}
