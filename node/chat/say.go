package chat

import (
	"fmt"
	"strings"
	"time"
)

// A Sentence is something the node tells a person, as a stable code with its
// arguments, so that every screen can say it in its user's language. The
// arguments are strings (names), lists of names, and integers; a name ending
// in _s is seconds, one ending in _bytes bytes, and n chooses the plural form.
type Sentence struct {
	Code string
	Args map[string]any
}

// A say is one sentence in one language. A brace holds an argument's name;
// one is used when n is 1.
type say struct{ one, other string }

// Languages are those sentences can be said in.
var Languages = []string{"en", "de"}

var catalogues = map[string]map[string]say{"en": sayEN, "de": sayDE}

// String says it in English.
func (s Sentence) String() string { return s.In("en") }

// In says it in a language; English when there is no such language.
func (s Sentence) In(lang string) string {
	if s.Code == "" {
		return ""
	}
	words, ok := catalogues[lang]
	if !ok {
		words, lang = sayEN, "en"
	}
	f, ok := words[s.Code]
	if !ok {
		return s.Code
	}
	text := f.other
	if n, ok := count(s.Args["n"]); ok && n == 1 && f.one != "" {
		text = f.one
	}
	var out strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "{")
		out.WriteString(before)
		if !ok {
			return out.String()
		}
		name, after, _ := strings.Cut(rest, "}")
		out.WriteString(argument(lang, name, s.Args[name]))
		text = after
	}
}

// argument writes one argument as people of a language read it.
func argument(lang, name string, v any) string {
	n, number := count(v)
	switch {
	case number && strings.HasSuffix(name, "_s"):
		return spanIn(lang, time.Duration(n)*time.Second)
	case number:
		return fmt.Sprint(n)
	}
	switch v := v.(type) {
	case []string:
		return strings.Join(v, ", ")
	case []any: // as it comes from JSON
		names := make([]string, len(v))
		for i, x := range v {
			names[i] = fmt.Sprint(x)
		}
		return strings.Join(names, ", ")
	case nil:
		return "?"
	}
	return fmt.Sprint(v)
}

// count reads an integer argument, also as it comes from JSON.
func count(v any) (n int64, ok bool) {
	switch v := v.(type) {
	case int:
		return int64(v), true
	case int64:
		return v, true
	case uint64:
		return int64(v), true
	case float64:
		return int64(v), true
	}
	return 0, false
}

// spanIn writes a duration as people say it, in one unit.
func spanIn(lang string, d time.Duration) string {
	days := "days"
	if lang == "de" {
		days = "Tagen"
	}
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", max(0, d/time.Second))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d %s", d/(24*time.Hour), days)
}

func all(s string) say { return say{other: s} }

// The sentences of Why. A code never changes its meaning; API.md lists them.
var sayEN = map[string]say{
	"here":           all("The message is here."),
	"synced":         all("Another of your devices sent the message; that device knows more."),
	"taken_back":     all("The sender took the message back; its content was shredded."),
	"burned":         all("The message was shredded after reading, as its sender asked."),
	"file_bad":       all("The file is not what its sender announced."),
	"file_here":      all("{have_bytes} of {total_bytes} bytes of the file are here."),
	"file_next":      all("The rest comes with contacts to nodes that have it, in any order and over any number of contacts."),
	"ask_again":      all("Ask for it again."),
	"came":           {"It was sent {sent_s} ago and came here {came_s} ago, over 1 link.", "It was sent {sent_s} ago and came here {came_s} ago, over {n} links."},
	"sent":           all("Sent {age_s} ago, precedence {precedence}."),
	"sent_now":       all("Sent just now, precedence {precedence}."),
	"time_over":      all("Its time is over."),
	"shredded_in":    all("It is shredded in {left_s}."),
	"expires_in":     all("It expires in {left_s}."),
	"keys_revoked":   all("The certificates of {name} were revoked."),
	"keys_none":      all("No usable keys of {name} are known here."),
	"id_unknown":     all("Nobody with the identifier {id} is known here."),
	"keys_known":     {"Keys of {name} are known for 1 device.", "Keys of {name} are known for {n} devices."},
	"contact_none":   all("No other node is in contact."),
	"contact":        {"1 node is in contact.", "{n} nodes are in contact."},
	"contact_core":   {"1 node is in contact, and the core is reachable.", "{n} nodes are in contact, and the core is reachable."},
	"taken_by":       all("Copies were taken by {nodes}."),
	"acknowledged":   all("It was acknowledged, and carriers are told to forget it."),
	"not_held":       all("This node holds no copy for the mesh any more."),
	"file_untaken":   all("No other node has begun to take the file."),
	"file_taken":     {"1 node has the file's announcement and takes its parts.", "{n} nodes have the file's announcement and take its parts."},
	"devices_have":   {"{have} of 1 device of {name} has it.", "{have} of {n} devices of {name} have it."},
	"writing":        all("The store is writing it."),
	"sending":        all("It is being sent to {node}: {sent_bytes} of {size_bytes} bytes."),
	"on_its_way":     all("It is on its way to {node}."),
	"neighbours_had": all("Every neighbour in contact has it; it waits for its reader's receipt."),
	"last_replica":   all("Its last replica waits for its reader or for a path to it."),
	"its_turn":       all("It waits for its turn on a link."),
	"move_closer":    all("Move closer to another node, or check the links."),

	"state_waiting_for_keys": all("The message is on this node and cannot be sealed yet: the recipient's keys are not here."),
	"state_queued":           all("The message is sealed on this node and waits for a neighbour to take it."),
	"state_carried":          all("Another node has taken a copy and carries it on."),
	"state_at_core":          all("The core has a copy."),
	"state_at_node":          all("A node that serves the recipient has it; the recipient has not opened it yet."),
	"state_delivered":        all("The recipient has it."),
	"state_read":             all("The recipient has read it."),
	"state_expired":          all("The message's time ran out before it was delivered; its content was shredded."),
	"state_recalled":         all("You took the message back."),
	"state_failed":           all("The message cannot go on."),

	"next_waiting_for_keys": all("It is sealed and goes as soon as the recipient's keys arrive, also after a restart."),
	"next_queued":           all("It goes to the next node that comes into contact."),
	"next_carried":          all("Every node that has a copy offers it to those it meets, until the recipient acknowledges it or its time is over."),
	"next_at_core":          all("The core hands it to a node that serves the recipient."),
	"next_at_node":          all("It opens when the recipient logs in."),

	"reason_revoked":         all("The certificates of {name} were revoked."),
	"reason_store_full":      all("This node has no room for it."),
	"reason_no_room":         all("Too many conversations are open at once."),
	"reason_weak_keys":       all("It was sealed with a long-lived key, because no newer one of {name} was known."),
	"reason_expired":         all("Its time ran out before it reached {name}."),
	"reason_archive_started": all("It was sealed before this node knew that the network is archived."),
	"reason_key_changed":     all("{name} has another key than the one that was compared, and nobody can open this any more."),
	"hint_revoked":           all("Recall the message; ask an administrator."),
	"hint_store_full":        all("Free space or raise the limit, then retry."),
	"hint_no_room":           all("Retry tomorrow, or recall what is no longer needed."),
	"hint_expired":           all("Send it again if it still matters."),
	"hint_archive_started":   all("Retry it, then it is archived too; or recall it."),
	"hint_key_changed":       all("Compare the new key, then retry: it is sealed for that one; or recall it."),
	"hint_unknown_id":        all("Compare the identifier with theirs. If it is wrong, recall the message."),
}

var sayDE = map[string]say{
	"here":           all("Die Nachricht ist hier."),
	"synced":         all("Ein anderes Ihrer Geräte hat die Nachricht gesendet; jenes weiß mehr."),
	"taken_back":     all("Der Absender hat die Nachricht zurückgerufen; ihr Inhalt wurde vernichtet."),
	"burned":         all("Die Nachricht wurde nach dem Lesen vernichtet, wie ihr Absender es wollte."),
	"file_bad":       all("Die Datei ist nicht, was ihr Absender angekündigt hat."),
	"file_here":      all("{have_bytes} von {total_bytes} Bytes der Datei sind hier."),
	"file_next":      all("Der Rest kommt bei Kontakten mit Knoten, die ihn haben, in beliebiger Reihenfolge und über beliebig viele Kontakte."),
	"ask_again":      all("Bitten Sie noch einmal darum."),
	"came":           {"Sie wurde vor {sent_s} gesendet und kam vor {came_s} hier an, über 1 Verbindung.", "Sie wurde vor {sent_s} gesendet und kam vor {came_s} hier an, über {n} Verbindungen."},
	"sent":           all("Vor {age_s} gesendet, Dringlichkeit {precedence}."),
	"sent_now":       all("Gerade eben gesendet, Dringlichkeit {precedence}."),
	"time_over":      all("Ihre Zeit ist abgelaufen."),
	"shredded_in":    all("Sie wird in {left_s} vernichtet."),
	"expires_in":     all("Sie läuft in {left_s} ab."),
	"keys_revoked":   all("Die Zertifikate von {name} wurden widerrufen."),
	"keys_none":      all("Hier sind keine brauchbaren Schlüssel von {name} bekannt."),
	"id_unknown":     all("Niemand mit der Kennung {id} ist hier bekannt."),
	"keys_known":     {"Schlüssel von {name} sind für 1 Gerät bekannt.", "Schlüssel von {name} sind für {n} Geräte bekannt."},
	"contact_none":   all("Kein anderer Knoten ist in Kontakt."),
	"contact":        {"1 Knoten ist in Kontakt.", "{n} Knoten sind in Kontakt."},
	"contact_core":   {"1 Knoten ist in Kontakt, und die Zentrale ist erreichbar.", "{n} Knoten sind in Kontakt, und die Zentrale ist erreichbar."},
	"taken_by":       all("Kopien haben übernommen: {nodes}."),
	"acknowledged":   all("Sie wurde bestätigt; die Träger werden angewiesen, sie zu vergessen."),
	"not_held":       all("Dieser Knoten hält keine Kopie mehr für das Netz."),
	"file_untaken":   all("Noch kein anderer Knoten hat begonnen, die Datei zu übernehmen."),
	"file_taken":     {"1 Knoten hat die Ankündigung der Datei und übernimmt ihre Teile.", "{n} Knoten haben die Ankündigung der Datei und übernehmen ihre Teile."},
	"devices_have":   {"{have} von 1 Gerät von {name} hat sie.", "{have} von {n} Geräten von {name} haben sie."},
	"writing":        all("Der Speicher schreibt sie gerade."),
	"sending":        all("Sie wird gerade an {node} gesendet: {sent_bytes} von {size_bytes} Bytes."),
	"on_its_way":     all("Sie ist auf dem Weg zu {node}."),
	"neighbours_had": all("Jeder Nachbar in Kontakt hat sie; sie wartet auf die Quittung des Empfängers."),
	"last_replica":   all("Ihre letzte Kopie wartet auf den Empfänger oder einen Weg zu ihm."),
	"its_turn":       all("Sie wartet, bis sie auf einer Verbindung an der Reihe ist."),
	"move_closer":    all("Gehen Sie näher an einen anderen Knoten heran oder prüfen Sie die Verbindungen."),

	"state_waiting_for_keys": all("Die Nachricht ist auf diesem Knoten und kann noch nicht versiegelt werden: die Schlüssel des Empfängers fehlen hier."),
	"state_queued":           all("Die Nachricht ist versiegelt auf diesem Knoten und wartet auf einen Nachbarn, der sie übernimmt."),
	"state_carried":          all("Ein anderer Knoten hat eine Kopie übernommen und trägt sie weiter."),
	"state_at_core":          all("Die Zentrale hat eine Kopie."),
	"state_at_node":          all("Ein Knoten des Empfängers hat sie; der Empfänger hat sie noch nicht geöffnet."),
	"state_delivered":        all("Der Empfänger hat sie."),
	"state_read":             all("Der Empfänger hat sie gelesen."),
	"state_expired":          all("Die Zeit der Nachricht lief ab, bevor sie zugestellt war; ihr Inhalt wurde vernichtet."),
	"state_recalled":         all("Sie haben die Nachricht zurückgerufen."),
	"state_failed":           all("Die Nachricht kommt nicht weiter."),

	"next_waiting_for_keys": all("Sie wird versiegelt und geht, sobald die Schlüssel des Empfängers ankommen, auch nach einem Neustart."),
	"next_queued":           all("Sie geht zum nächsten Knoten, der in Kontakt kommt."),
	"next_carried":          all("Jeder Knoten mit einer Kopie bietet sie denen an, die er trifft, bis der Empfänger sie bestätigt oder ihre Zeit abläuft."),
	"next_at_core":          all("Die Zentrale gibt sie an einen Knoten des Empfängers weiter."),
	"next_at_node":          all("Sie öffnet sich, wenn der Empfänger sich anmeldet."),

	"reason_revoked":         all("Die Zertifikate von {name} wurden widerrufen."),
	"reason_store_full":      all("Dieser Knoten hat keinen Platz dafür."),
	"reason_no_room":         all("Zu viele Gespräche sind zugleich offen."),
	"reason_weak_keys":       all("Sie wurde mit einem langlebigen Schlüssel versiegelt, weil kein neuerer von {name} bekannt war."),
	"reason_expired":         all("Ihre Zeit lief ab, bevor sie {name} erreichte."),
	"reason_archive_started": all("Sie wurde versiegelt, bevor dieser Knoten wusste, dass das Netz archiviert wird."),
	"reason_key_changed":     all("{name} hat einen anderen Schlüssel als den verglichenen, und niemand kann sie mehr öffnen."),
	"hint_revoked":           all("Rufen Sie die Nachricht zurück und fragen Sie einen Administrator."),
	"hint_store_full":        all("Schaffen Sie Platz oder erhöhen Sie die Grenze, dann wiederholen Sie."),
	"hint_no_room":           all("Wiederholen Sie morgen, oder rufen Sie zurück, was nicht mehr gebraucht wird."),
	"hint_expired":           all("Senden Sie sie noch einmal, wenn sie noch wichtig ist."),
	"hint_archive_started":   all("Wiederholen Sie sie, dann wird auch sie archiviert; oder rufen Sie sie zurück."),
	"hint_key_changed":       all("Vergleichen Sie den neuen Schlüssel und wiederholen Sie dann: sie wird für ihn versiegelt; oder rufen Sie sie zurück."),
	"hint_unknown_id":        all("Vergleichen Sie die Kennung mit der des Empfängers. Ist sie falsch, rufen Sie die Nachricht zurück."),
}
