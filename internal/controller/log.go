package controller

import (
	"log/slog"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

// LogTo sends what Kubernetes' client libraries have to say to l: they know no
// logger but the process's. It is for a program's beginning.
func LogTo(l *slog.Logger) {
	klog.SetSlogLogger(l)
	ctrllog.SetLogger(logr.FromSlogHandler(l.Handler()))
}
