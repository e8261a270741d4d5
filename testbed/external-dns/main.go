// Command external-dns is external-dns as far as it concerns DNS: its own flags, plan, registries, and the two providers that
// publish into servers which the test bed has. Only reading the DNSEndpoints and the loop around it all are written anew, as
// external-dns does them: its packages for that import every source and every cloud there is.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	log "github.com/sirupsen/logrus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"sigs.k8s.io/external-dns/apis/v1alpha1"
	"sigs.k8s.io/external-dns/endpoint"
	"sigs.k8s.io/external-dns/pkg/apis/externaldns"
	"sigs.k8s.io/external-dns/pkg/apis/externaldns/validation"
	"sigs.k8s.io/external-dns/plan"
	"sigs.k8s.io/external-dns/provider"
	"sigs.k8s.io/external-dns/provider/pdns"
	"sigs.k8s.io/external-dns/provider/rfc2136"
	"sigs.k8s.io/external-dns/registry"
	"sigs.k8s.io/external-dns/registry/noop"
	"sigs.k8s.io/external-dns/registry/txt"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	cfg := externaldns.NewConfig()
	if err := cfg.ParseFlags(os.Args[1:]); err != nil {
		return err
	}
	if err := validation.ValidateConfig(cfg); err != nil {
		return err
	}
	level, err := log.ParseLevel(cfg.LogLevel)
	if err != nil {
		return err
	}
	log.SetLevel(level)
	objects, err := reader(cfg)
	if err != nil {
		return err
	}
	filter := endpoint.NewDomainFilterWithOptions(
		endpoint.WithDomainFilter(cfg.DomainFilter),
		endpoint.WithDomainExclude(cfg.DomainExclude),
		endpoint.WithRegexDomainFilter(cfg.RegexDomainFilter),
		endpoint.WithRegexDomainExclude(cfg.RegexDomainExclude),
	)
	policy, known := plan.Policies[cfg.Policy]
	if !known {
		return fmt.Errorf("unknown policy: %q", cfg.Policy)
	}
	outlet, err := providerOf(ctx, cfg, filter)
	if err != nil {
		return err
	}
	records, err := registryOf(cfg, outlet)
	if err != nil {
		return err
	}
	// Whoever waits for the start looks whether this is listened at.
	go func() { log.Fatal(http.ListenAndServe(cfg.MetricsAddress, http.NotFoundHandler())) }()

	sync := func() error {
		current, err := records.Records(ctx)
		if err != nil {
			return err
		}
		within := context.WithValue(ctx, provider.RecordsContextKey, current)
		wanted, err := endpoints(within, objects, cfg.Namespace)
		if err != nil {
			return err
		}
		wanted, err = records.AdjustEndpoints(wanted)
		if err != nil {
			return err
		}
		planned := (&plan.Plan{
			Policies:       []plan.Policy{policy},
			Current:        current,
			Desired:        wanted,
			DomainFilter:   endpoint.MatchAllDomainFilters{filter, records.GetDomainFilter()},
			ManagedRecords: cfg.ManagedDNSRecordTypes,
			ExcludeRecords: cfg.ExcludeDNSRecordTypes,
			OwnerID:        records.OwnerID(),
			OldOwnerID:     cfg.TXTOwnerOld,
		}).Calculate()
		if !planned.Changes.HasChanges() {
			return nil
		}
		return records.ApplyChanges(within, planned.Changes)
	}
	for {
		// Anything else than a soft error ends external-dns as well.
		if err := sync(); err != nil && !errors.Is(err, provider.SoftError) {
			return err
		} else if err != nil {
			log.Error(err)
		}
		select {
		case <-time.After(cfg.Interval):
		case <-ctx.Done():
			return nil
		}
	}
}

// reader reads DNSEndpoints.
func reader(cfg *externaldns.Config) (client.Reader, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	metav1.AddToGroupVersion(scheme, v1alpha1.GroupVersion)
	access, err := clientcmd.BuildConfigFromFlags(cfg.APIServerURL, cfg.KubeConfig)
	if err != nil {
		return nil, err
	}
	return client.New(access, client.Options{Scheme: scheme})
}

// endpoints are those of all objects in a namespace, each labelled with its object.
func endpoints(ctx context.Context, objects client.Reader, namespace string) ([]*endpoint.Endpoint, error) {
	list := &v1alpha1.DNSEndpointList{}
	if err := objects.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	var all []*endpoint.Endpoint
	for _, object := range list.Items {
		for _, one := range object.Spec.Endpoints {
			one.WithLabel(endpoint.ResourceLabelKey, fmt.Sprintf("crd/%s/%s", object.Namespace, object.Name))
			all = append(all, one)
		}
	}
	return endpoint.MergeEndpoints(all), nil
}

func providerOf(
	ctx context.Context, cfg *externaldns.Config, filter *endpoint.DomainFilter,
) (provider.Provider, error) {
	switch cfg.Provider {
	case externaldns.ProviderPDNS:
		return pdns.New(ctx, cfg, filter)
	case externaldns.ProviderRFC2136:
		return rfc2136.New(ctx, cfg, filter)
	default:
		return nil, fmt.Errorf("the test bed has no provider %q", cfg.Provider)
	}
}

func registryOf(cfg *externaldns.Config, outlet provider.Provider) (registry.Registry, error) {
	switch cfg.Registry {
	case externaldns.RegistryTXT:
		return txt.New(cfg, outlet)
	case externaldns.RegistryNoop:
		return noop.New(cfg, outlet)
	default:
		return nil, fmt.Errorf("the test bed has no registry %q", cfg.Registry)
	}
}
