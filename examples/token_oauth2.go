//go:build ignore

// Go, with golang.org/x/oauth2, a stock OAuth client: bursar is its token endpoint. Prints the access token.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

func main() {
	socket := os.Getenv("BURSAR_SOCKET")
	if socket == "" {
		socket = "/run/bursar/bursar.sock"
	}
	overSocket := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, overSocket)
	// It has no secret: bursar goes by what the kernel says of this process.
	config := &clientcredentials.Config{
		ClientID:  "checkout",
		TokenURL:  "http://localhost/token/stripe",
		Scopes:    []string{"charges:read"},
		AuthStyle: oauth2.AuthStyleInParams, // it would ask twice to find that out
	}
	token, err := fetch(ctx, config, 30*time.Second)
	if err != nil {
		fmt.Fprintln(os.Stderr, told(err))
		os.Exit(1)
	}
	if stale, _ := token.Extra("stale").(bool); stale {
		// It serves as any other; but if the provider stays down, there will be none after it.
		fmt.Fprintln(os.Stderr, "the provider fails now, and this token is not renewed: it is stale")
	}
	fmt.Println(token.AccessToken)
}

// fetch asks, and waits as bursar says: no longer than patience in all.
func fetch(ctx context.Context, config *clientcredentials.Config, patience time.Duration) (*oauth2.Token, error) {
	for {
		token, err := config.Token(ctx)
		var refused *oauth2.RetrieveError
		if !errors.As(err, &refused) {
			return token, err
		}
		wait := retryAfter(refused.Response)
		patience -= wait
		// No token now: bursar says when to ask again.
		status := refused.Response.StatusCode
		waits := status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests
		if !waits || patience < 0 {
			return nil, err
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

// told is bursar's error body in a line, where it is one.
func told(err error) string {
	var refused *oauth2.RetrieveError
	var said struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
		Remedy      string `json:"remedy"`
	}
	if !errors.As(err, &refused) || json.Unmarshal(refused.Body, &said) != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s: %s; %s", said.Error, said.Description, said.Remedy)
}
