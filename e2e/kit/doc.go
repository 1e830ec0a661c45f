// Package kit runs a real Kubernetes control plane and a real Gatekeeper on the loopback interface, for tests
// and for trying things out, without a container engine, root rights or anything but the Go toolchain.
//
//	cluster, err := kit.Start(ctx, kit.Options{})
//	if err != nil { … }
//	defer cluster.Stop()
//	gk, err := cluster.StartGatekeeper(ctx, kit.GatekeeperOptions{})
//	…
//	err = gk.Apply(ctx, templateYAML, providerYAML, constraintYAML) // returns once they are enforced
//	err = cluster.Apply(ctx, podYAML)                               // denied or not
//
// It consists of etcd, kube-apiserver (RBAC, all default admission plugins), kube-controller-manager and
// Gatekeeper as child processes. There is no node: no scheduler and no kubelet, so Pods are made and stay
// Pending. SetRunning writes what a kubelet would report, image ids included.
//
// There is no service network either. A webhook can be registered by URL, or by service, as in production:
// see Cluster.LoopbackService.
//
// Start takes seconds, so a test package shares one cluster:
//
//	var cluster *kit.Cluster
//
//	func TestMain(m *testing.M) { os.Exit(kit.Main(m.Run, kit.Options{}, &cluster)) }
//
// and gives each test a namespace of its own by Cluster.Namespace.
package kit
