package chat

import (
	"context"

	"outrider/mesh/identity"
)

// A Renewer renews device certificates. It is asked whenever a password has
// opened a user's keys, the only time when the user's own key can sign.
type Renewer interface {
	// RenewDevice returns keys with a chain that lasts longer, kept and
	// published, or the same keys if there is nothing to renew.
	RenewDevice(ctx context.Context, user identity.UserID, password []byte, keys Keys) (Keys, error)
}

// renewed renews the device if it is time. That it could not be done keeps
// nobody from their messages.
func (s *Service) renewed(ctx context.Context, user identity.UserID, password []byte, keys Keys) Keys {
	if s.cfg.Renewer == nil {
		return keys
	}
	fresh, err := s.cfg.Renewer.RenewDevice(ctx, user, password, keys)
	if err != nil {
		s.log.Warn("a device was not renewed", "err", err)
		return keys
	}
	return fresh
}
