package doctor

import "context"

// checkCarry tells of the last stick: whoever carries it on may not have seen
// what the command said.
func checkCarry(_ context.Context, e Env) (out []Finding) {
	c := e.Running.Carry
	when := c.Ended.Local().Format("2006-01-02 15:04")
	if c.Full {
		out = append(out, found("carry-full", "when", when))
	}
	if c.Damaged {
		out = append(out, found("carry-damaged", "when", when))
	}
	return out
}
