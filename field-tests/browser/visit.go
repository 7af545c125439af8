package browser

import (
	"fmt"
	"net/url"
)

// Visit loads an address and waits for nothing. refused is the browser's own
// word for why it did not load it, such as net::ERR_CERT_AUTHORITY_INVALID;
// empty when it did. From then on requests to any other origin are problems.
func (p *Page) Visit(address string) (refused string, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("browser: visit: %w", err)
	}
	p.mu.Lock()
	p.origin = u.Scheme + "://" + u.Host
	p.mu.Unlock()
	if refused, err = p.navigate(address); err != nil {
		return "", fmt.Errorf("browser: visit %s: %w", address, err)
	}
	return refused, nil
}

// Show loads an address and waits for a condition on its page. A warning of
// the browser's in its place is an error.
func (p *Page) Show(address, what, condition string) error {
	refused, err := p.Visit(address)
	if err != nil {
		return err
	}
	if refused != "" {
		return fmt.Errorf("browser: %s was not loaded: %s", address, refused)
	}
	return p.Wait(what, condition)
}
