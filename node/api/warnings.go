package api

// A warning is something about the node that an operator must know: what it
// is, and what to do.
type warning struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// knownWarnings are all there are. A code never changes its meaning.
var knownWarnings = []warning{
	{"age_uncertain", "how long this node was switched off is not known: messages may live longer here than meant", "nothing is lost; connect GPS or NTP and it is counted"},
	{"clock_behind", "this node's clock is behind a time that an admin has signed", "set the clock; until then no certificates are issued here, and nothing expires early"},
	{"clock_unconfirmed", "nothing has confirmed this node's clock since it started", "nothing is lost; connect GPS or NTP, or compare the clock by hand"},
	{"config_conflict", "two versions of a group's policy carry one number and differ; the stricter value of each field is in force", "ask the admins whether both are theirs; outrider config list shows which"},
	{"config_past_date", "a group's policy in force here is past its date", "it stays in force; ask the admin for a newer one (outrider config list)"},
	{"config_unverified", "a policy was applied while the clock was not confirmed; its dates are judged again when it is", "connect GPS or NTP"},
	{"device_ends", "a user's device certificate ends within 30 days", "the user logs in on this node once; if that does not help, their own certificate ends: ask the admin for outrider admit renew"},
	{"join_unverified", "this node joined while its clock was not confirmed; the link's validity is checked when it is", "connect GPS or NTP, or ask the admin for outrider admit accept"},
	{"join_void", "the join link of this node had ended when it was used, so it speaks to nobody", "ask the admin for a new link, then outrider join; what is stored here is kept"},
	{"node_ends", "this node's certificate ends within 30 days", "ask the admin for outrider admit renew, and meet any node afterwards"},
	{"store_full", "this node's store is more than 90 % full; mail and files that find no room are refused", "outrider doctor tells what fills it; raise the limit below [store], or bring the node near those its mail is for"},
	{"user_ends", "the certificate of a user of this node ends within 30 days", "ask the admin for outrider admit renew, and meet any node afterwards"},
}

func warningViews(codes []string) []warning {
	out := []warning{}
	for _, w := range knownWarnings {
		for _, c := range codes {
			if c == w.Code {
				out = append(out, w)
			}
		}
	}
	return out
}
