//! How fast an interface sends: a token bucket (tc-tbf(8); upstream: the CNI plugin `bandwidth`). The node's end of a pod's
//! pair sends what the pod receives. What the pod sends is limited at its own end, which needs no interface more: a pod that
//! may administer its network (`CAP_NET_ADMIN`) may lift that.

use futures::StreamExt as _;
use rtnetlink::packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};
use rtnetlink::{Error, Handle};

/// Attributes of a token bucket (`linux/pkt_sched.h`).
const PARAMETERS: u16 = 1;
const LARGE_RATE: u16 = 4;
const BURST: u16 = 6;
/// `TC_LINKLAYER_ETHERNET`: the kernel works out itself how long packets take.
const ETHERNET: u8 = 1;
/// The least burst in bytes: the largest frames, which would never have tokens enough, and a few small ones.
const LEAST_BURST: u64 = 16 * 1024;
/// What may be sent at once, as a part of a second, and how long packets wait before they are dropped (upstream: 25 ms).
const BURST_PART: u64 = 100;
const QUEUE_PART: u64 = 40;

/// Has an interface send at most `rate` bits a second. Nothing is to be limited twice at one interface.
pub(super) async fn limit(handle: &Handle, index: u32, rate: u64) -> Result<(), Error> {
    let mut message = TcMessage::with_index(index.cast_signed());
    message.header.parent = TcHandle::ROOT;
    message.attributes = vec![TcAttribute::Kind("tbf".to_owned()), TcAttribute::Options(options(rate / 8))];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    let mut answers = handle.clone().request(request)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(err) = answer.payload
            && err.code.is_some()
        {
            return Err(Error::NetlinkError(err));
        }
    }
    Ok(())
}

/// The bucket for so many bytes a second.
fn options(rate: u64) -> Vec<TcOption> {
    let fits = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let burst = fits((rate / BURST_PART).max(LEAST_BURST));
    let limit = fits((rate / QUEUE_PART).saturating_add(burst.into()));
    // struct tc_ratespec: cell, link layer, overhead, alignment, least size, bytes a second.
    let mut speed = [0; 12];
    speed[1] = ETHERNET;
    speed[8..].copy_from_slice(&fits(rate).to_ne_bytes());
    // struct tc_tbf_qopt: speed, peak speed (none), limit, and burst and largest packet as times, which BURST stands for.
    let parameters = [&speed[..], &[0; 12], &limit.to_ne_bytes(), &[0; 8]].concat();
    let option = |kind, value| TcOption::Other(DefaultNla::new(kind, value));
    let mut options = vec![option(PARAMETERS, parameters), option(BURST, burst.to_ne_bytes().to_vec())];
    if rate > u32::MAX.into() {
        options.push(option(LARGE_RATE, rate.to_ne_bytes().to_vec()));
    }
    options
}
