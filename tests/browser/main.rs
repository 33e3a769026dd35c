//! Real browsers against a real cluster with real mediasoup workers.
