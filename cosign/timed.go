package cosign

import (
	"fmt"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/cosign/internal/tlog"
)

func badTime(format string, a ...any) boltseal.Reason {
	return boltseal.Reason{Cause: boltseal.CauseTimestamp, Message: fmt.Sprintf(format, a...),
		Remedy: "sign the image again with a timestamp of a trusted authority, or with an entry of a log that shows the time"}
}

// timed finds out when the signature was made, and that signer and authorities were
// trusted then. An entry's time counts only with the log's promise; a log of Rekor's
// second version tells none.
func (w *work) timed() (boltseal.Reason, error) {
	var why error
	if w.p.Root.HasTimestampAuthorities() {
		for _, t := range w.m.timestamps {
			at, _, err := w.p.Root.timestamp(w.ctx, t, w.m.signature)
			if cutOff(err) {
				return boltseal.Reason{}, err
			}
			if err != nil {
				why = err
				continue
			}
			w.times, w.tsaTime, w.ev.TimestampAt = append(w.times, at), true, at
		}
	}
	if w.ev.TimestampAt.IsZero() && len(w.times) > 0 {
		w.ev.TimestampAt = w.times[0]
	}
	if bad := w.sources(why); bad.Cause != boltseal.CauseNone {
		return bad, nil
	}
	times := w.times
	if len(times) == 0 {
		if bad := w.untimed(why); bad.Cause != boltseal.CauseNone {
			return bad, nil
		}
		times = []time.Time{w.now}
	}
	for _, at := range times {
		if bad := w.validAt(at); bad.Cause != boltseal.CauseNone {
			return bad, nil
		}
	}
	return boltseal.Reason{}, nil
}

// sources asks whether those vouch for the time whom the trust policy requires.
func (w *work) sources(why error) boltseal.Reason {
	detail := ""
	if why != nil {
		detail = "; its timestamp " + why.Error()
	}
	switch p := w.p.Time; {
	case (p == TimeLog || p == TimeBoth) && !w.logTime:
		return badTime("the trust policy requires the time of a transparency log, and the signature has none%s", detail)
	case (p == TimeAuthority || p == TimeBoth) && !w.tsaTime:
		return badTime("the trust policy requires the time of a timestamp authority, and the signature has none%s", detail)
	}
	return boltseal.Reason{}
}

// untimed is about a signature whose time nobody tells. With a key that is nothing to
// reject it for. With a certificate it is, but where neither log nor timestamp authority
// is there to be asked: then the certificate, which lives some minutes, must be valid now.
func (w *work) untimed(why error) boltseal.Reason {
	if w.key != nil || w.p.IgnoreLog && !w.p.Root.HasTimestampAuthorities() {
		return boltseal.Reason{}
	}
	if why != nil {
		return badTime("nobody trusted says when the signature was made: its timestamp %v", why)
	}
	return badTime("nobody trusted says when the signature was made, and its certificate is valid for some minutes only")
}

// validAt asks whether the signer was trusted at a time, and the logs that have the
// signature were: a log of Rekor's second version tells none of its own.
func (w *work) validAt(at time.Time) boltseal.Reason {
	expired := func(message string) boltseal.Reason {
		return boltseal.Reason{Cause: boltseal.CauseCertificateExpired, Message: message, Remedy: "sign the image again while the certificate is valid, and with a key that is trusted at that time"}
	}
	if w.key != nil {
		if !w.key.contains(at) {
			return expired(fmt.Sprintf("the key %s is not trusted at %s, when the signature was made", w.key.Name, at.UTC().Format(time.RFC3339)))
		}
		if len(w.times) == 0 {
			w.ev.ValidUntil = w.key.NotAfter
		}
	} else if bad := w.certificateAt(at); bad != "" {
		return expired(bad)
	}
	if w.p.IgnoreLog || len(w.times) == 0 {
		return boltseal.Reason{}
	}
	for _, e := range w.m.entries {
		if log := w.p.Root.logs[string(e.LogID)]; log != nil && tlog.IsV2(e.Kind, e.Version) && !log.contains(at) {
			return notLogged("the trusted root does not trust %s at %s, when the signature was made", log.name, at.UTC().Format(time.RFC3339))
		}
	}
	return boltseal.Reason{}
}

// certificateAt says why the certificate was not valid at a time, "" where it was. One
// of the authorities that have issued it suffices.
func (w *work) certificateAt(at time.Time) (why string) {
	for _, a := range w.issuers {
		err := a.validAt(at, w.m.certificate)
		if err != nil {
			why = err.Error()
			continue
		}
		if len(w.times) == 0 {
			w.ev.ValidUntil = w.m.certificate.NotAfter.UTC()
			for _, c := range a.chain {
				if c.NotAfter.Before(w.ev.ValidUntil) {
					w.ev.ValidUntil = c.NotAfter.UTC()
				}
			}
		}
		return ""
	}
	if len(w.times) == 0 {
		why += "; neither a log nor a timestamp authority is asked when it was made, so it counts only while the certificate is valid"
	}
	return why
}

// identity asks whether the certificate was issued to somebody whom the trust policy
// names. A key is its own identity.
func (w *work) identity() (boltseal.Reason, error) {
	if w.key != nil {
		return boltseal.Reason{}, nil
	}
	id, err := readCertified(w.m.certificate)
	if err == nil {
		_, err = matchIdentity(w.p.Identities, id)
	}
	if err != nil {
		return boltseal.Reason{Cause: boltseal.CauseIdentity, Message: err.Error(), Remedy: "sign as a trusted identity, or add this one to the trust policy"}, nil
	}
	return boltseal.Reason{}, nil
}
