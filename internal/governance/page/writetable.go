package page

import "strconv"

// writeTitled writes a table with its heading, or what is said in its place; below tells whether its page is below another.
func (t *table) writeTitled(m *markup, below bool) {
	var heading constant = "h2"
	if below {
		heading = "h3"
	}
	m.raw("<div>\n<" + heading)
	m.attr("id", t.ID)
	m.raw(">")
	m.text(t.Title)
	m.raw("</" + heading + ">\n")
	if len(t.Rows) > 0 {
		t.write(m)
	} else {
		m.within("p", "none", t.Empty)
	}
	m.raw("\n")
	if t.More > 0 {
		m.within("p", "note", strconv.Itoa(t.More)+" more are not shown.")
	}
	if t.Note != "" {
		m.within("p", "note", t.Note)
	}
	m.raw("\n</div>\n")
}

func (t *table) write(m *markup) {
	m.raw("<table><thead><tr>")
	for _, h := range t.Header {
		m.raw(`<th scope="col">`)
		m.text(h)
		m.raw("</th>")
	}
	m.raw("</tr></thead>\n<tbody>")
	for _, row := range t.Rows {
		m.raw("<tr>")
		for i := range row {
			if i == 0 {
				m.raw(`<th scope="row">`)
				row[i].write(m)
				m.raw("</th>")
				continue
			}
			m.raw("<td")
			m.attr("data-of", t.Header[i])
			m.raw(">")
			row[i].write(m)
			m.raw("</td>")
		}
		m.raw("</tr>\n")
	}
	m.raw("</tbody></table>")
}

func (c *cell) write(m *markup) {
	if c.State != nil {
		c.State.write(m)
	}
	if c.Bar != nil {
		c.Bar.write(m)
	}
	if c.Spark != nil {
		c.Spark.write(m)
	}
	switch {
	case c.Mono:
		m.raw("<code>")
		m.link(c.Text, c.Href)
		m.raw("</code>")
	case c.Time:
		m.within("span", "at", c.Text)
	default:
		m.link(c.Text, c.Href)
	}
	writeBelow(m, c.Below)
}

func (s *state) write(m *markup) {
	m.raw("<span")
	m.attr("class", "state "+s.Class)
	m.raw(">")
	m.text(s.Word)
	m.raw("</span>")
}

func (b *bar) write(m *markup) {
	m.raw(`<svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">`)
	for _, p := range b.Parts {
		m.raw("<rect")
		m.attr("class", p.Class)
		m.attr("x", p.X)
		m.raw(` y="0"`)
		m.attr("width", p.Width)
		m.raw(` height="6"/>`)
	}
	m.raw("</svg>")
}

func (s *spark) write(m *markup) {
	m.raw(`<svg class="spark" role="img"`)
	m.attr("aria-label", s.Label)
	m.raw(` viewBox="0 0 100 24" preserveAspectRatio="none"><line x1="0" y1="22" x2="100" y2="22"/>`)
	for _, points := range s.Lines {
		m.raw("<polyline")
		m.attr("points", points)
		m.raw("/>")
	}
	m.raw("</svg>")
}

func (c *chart) write(m *markup) {
	m.raw(`<figure><svg class="chart" role="img"`)
	m.attr("aria-label", c.Label)
	m.raw(` viewBox="0 0 600 120" preserveAspectRatio="none">`)
	for _, a := range c.Areas {
		m.raw("<polygon")
		m.attr("class", a.Class)
		m.attr("points", a.Points)
		m.raw("/>")
	}
	m.raw("</svg>\n<figcaption>")
	m.within("span", "", c.From)
	m.raw(` <span class="key"><i class="bad"></i> non-compliant <i class="warn"></i> unknown <i class="good"></i> compliant</span> `)
	m.within("span", "", c.To)
	m.raw("</figcaption>\n<details>")
	m.within("summary", "", c.Points.Title)
	c.Points.write(m)
	m.raw("</details></figure>")
}
