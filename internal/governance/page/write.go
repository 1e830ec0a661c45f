package page

import "strconv"

// write writes a document: its head, and a page for each section.
func (d *document) write(m *markup) {
	m.raw(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<meta http-equiv="Content-Security-Policy"`)
	m.attr("content", d.Policy)
	m.raw(">\n<title>")
	if d.File {
		m.raw("Compliance")
	} else {
		for _, s := range d.Sections {
			m.text(s.Title)
			if s.Kind != "" {
				m.text(" – " + s.Kind)
			}
		}
	}
	m.raw(" – Boltseal</title>\n<style>")
	m.raw(constant(style)) // it is embedded in the program
	m.raw("</style>\n</head>\n<body>\n<header class=\"top\"><p><strong>Boltseal</strong> <span>as the hub knew it at ")
	m.text(d.At)
	m.raw("</span></p></header>\n<main>\n")
	for i := range d.Sections {
		d.Sections[i].write(m, d.File)
	}
	m.raw("</main>\n</body>\n</html>\n")
}

// write writes one page; file tells whether it is one of several in a document.
func (s *section) write(m *markup, file bool) {
	below := file && s.Kind != "" // the overview has the document's own heading
	m.raw("<article")
	m.attr("id", s.ID)
	m.raw(">\n")
	if len(s.Up) > 0 {
		m.raw("<nav")
		m.attr("aria-label", "Above "+s.Title)
		m.raw("><ol>")
		writeLinks(m, s.Up)
		m.raw("</ol></nav>")
	}
	m.raw("\n")
	if below {
		m.raw(`<h2 class="title">`)
		s.writeTitle(m)
		m.raw("</h2>\n")
	} else {
		m.raw(`<h1 class="title">`)
		s.writeTitle(m)
		m.raw("</h1>\n")
	}
	if s.Lead != "" {
		m.within("p", "lead", s.Lead)
	}
	m.raw("\n")
	for i := range s.Alerts {
		s.Alerts[i].write(m)
	}
	m.raw("\n")
	writeCards(m, s.Cards)
	m.raw("\n")
	writeFacts(m, s.Facts)
	m.raw("\n")
	if s.Chart != nil {
		s.Chart.write(m)
	}
	m.raw("\n")
	for i := range s.Tables {
		s.Tables[i].writeTitled(m, below)
	}
	m.raw("</article>\n")
}

func (s *section) writeTitle(m *markup) {
	if s.Kind != "" {
		m.within("small", "", s.Kind)
		m.raw(" ")
	}
	m.within("span", "", s.Title)
	if s.State != nil {
		m.raw(" ")
		s.State.write(m)
	}
}

func (a *alert) write(m *markup) {
	m.raw(`<div class="alert"><p>`)
	m.within("strong", "", a.Title)
	m.raw("</p>")
	m.within("p", "", a.Text)
	m.raw("\n")
	if len(a.Links) > 0 {
		m.raw("<ul>")
		writeLinks(m, a.Links)
		if a.More > 0 {
			m.within("li", "", "and "+strconv.Itoa(a.More)+" more")
		}
		m.raw("</ul>")
	}
	m.raw("</div>\n")
}

// writeLinks writes the items of a list.
func writeLinks(m *markup, links []link) {
	for _, l := range links {
		m.raw("<li>")
		m.link(l.Text, l.Href)
		m.raw("</li>")
	}
}

func writeCards(m *markup, cards []card) {
	if len(cards) == 0 {
		return
	}
	m.raw(`<ul class="cards">`)
	for _, c := range cards {
		m.raw("<li")
		m.attr("class", c.Class)
		m.raw(">")
		m.within("b", "", c.Number)
		m.raw(" ")
		m.within("span", "", c.Name)
		writeBelow(m, c.Below)
		m.raw("</li>")
	}
	m.raw("</ul>")
}

// writeBelow writes what is said below a number or a text, if anything.
func writeBelow(m *markup, s string) {
	if s != "" {
		m.raw(" ")
		m.within("small", "", s)
	}
}

func writeFacts(m *markup, facts []fact) {
	if len(facts) == 0 {
		return
	}
	m.raw("<dl>")
	for i := range facts {
		m.raw("<div>")
		m.within("dt", "", facts[i].Name)
		m.raw("<dd>")
		facts[i].Cell.write(m)
		m.raw("</dd></div>")
	}
	m.raw("</dl>")
}
