//! Why a request was not served: for the access log and the counters. Clients are told less.

use catalog::problem::Code;

macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident $name:literal $code:ident;)*) => {
        /// A reason. Attached to an answer as an extension; it never travels.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Refusal { $($(#[$doc])* $variant,)* }

        impl Refusal {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// In one word, as counters name it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What `spsync explain` knows it by.
            pub fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code,)* }
            }
        }
    };
}

refusals! {
    /// It is no request, or one that two servers would read differently.
    Malformed "malformed" ServeMalformed;
    /// Its head is too large.
    HeadTooLarge "head-too-large" ServeMalformed;
    /// A method that the route does not have.
    Method "method" ServeMalformed;
    /// No route of ours.
    NoRoute "no-route" ServeNotHere;
    /// Content that this point was not given.
    Absent "absent" ServeNotHere;
    /// Content that this point was given and has not.
    Missing "missing" ServeDamaged;
    /// Content that is not what it was when it was stored.
    Damaged "damaged" ServeDamaged;
    /// The disk does not answer.
    Unreadable "unreadable" ServeDamaged;
    /// Private content, and no key that is valid here.
    Forbidden "forbidden" ServeForbidden;
    /// All transfers that may run at once are running.
    Busy "busy" ServeBusy;
    /// This client has all the transfers that it may have.
    ClientBusy "client-busy" ServeBusy;
    /// Content that is being fetched, and has not come as far as was asked for in the time that a request waits.
    NotYet "not-yet" ServeNotYet;
    /// Content that nobody who was asked for it could give.
    Upstream "upstream" ServeUpstreamFailed;
    /// Content for which there is no room here.
    NoRoom "no-room" DpDiskFull;
    /// A connection beyond those allowed.
    Connections "connections" ServeBusy;
    /// A connection of one client beyond those allowed.
    ClientConnections "client-connections" ServeBusy;
}
