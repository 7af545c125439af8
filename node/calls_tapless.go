//go:build !calltap

package node

// callTap sees nothing: only a test build (calls_tap.go) lets somebody see
// what the node forwards in calls.
var callTap func(payload []byte)
