//! The same test under every kind of containment this machine has, as root and as another user.

use cc_executor::proto::Containment;
use futures_util::future::join_all;
use nix::unistd::Uid;
use tokio::sync::OnceCell;

use super::Server;
use super::server::Setup;

/// A user without any rights.
pub(crate) const NOBODY: u32 = 65_534;

/// A kind of containment, and who the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rung {
    pub(crate) containment: Containment,
    /// `None` is the user of the test.
    pub(crate) user: Option<u32>,
}

impl Rung {
    /// Whether it holds what leaves session, group, environment and parent behind.
    pub(crate) fn holds_everything(self) -> bool {
        self.containment != Containment::Group
    }

    pub(crate) fn setup(self) -> Setup {
        let name = match self.containment {
            Containment::Cgroup => "cgroup",
            Containment::Shim => "shim",
            _ => "group",
        };
        let setup = Server::setup().arg("--containment").arg(name);
        match self.user {
            Some(user) => setup.user(user),
            None => setup,
        }
    }
}

/// The rungs of this machine, found out once: all that are not better than what a server chooses by itself.
pub(crate) async fn rungs() -> &'static [Rung] {
    static RUNGS: OnceCell<Vec<Rung>> = OnceCell::const_new();
    RUNGS.get_or_init(find).await
}

async fn find() -> Vec<Rung> {
    let users = if Uid::effective().is_root() { vec![None, Some(NOBODY)] } else { vec![None] };
    let mut rungs = Vec::new();
    for user in users {
        let setup = match user {
            Some(user) => Server::setup().user(user),
            None => Server::setup(),
        };
        let server = setup.start().await;
        let info = server.server().await.get_server_info(cc_executor::proto::GetServerInfoRequest {}).await;
        let info = info.expect("it tells").into_inner();
        #[expect(clippy::print_stderr, reason = "who runs the tests must know what was not tested")]
        for note in &info.containment_notes {
            eprintln!("skipped as user {user:?}: {note}");
        }
        let possible = [Containment::Cgroup, Containment::Shim, Containment::Group];
        let possible = possible.into_iter().filter(|one| *one as i32 >= info.containment);
        rungs.extend(possible.map(|containment| Rung { containment, user }));
    }
    rungs
}

/// Runs `test` on all rungs at once, each with a server of its own.
pub(crate) async fn on_every_rung(test: impl AsyncFn(&Server, Rung)) {
    join_all(rungs().await.iter().map(|rung| on(*rung, &test))).await;
}

async fn on(rung: Rung, test: &impl AsyncFn(&Server, Rung)) {
    let server = rung.setup().start().await;
    let named = Named(rung);
    test(&server, rung).await;
    std::mem::forget(named);
}

/// Says on which rung a test failed.
struct Named(Rung);

impl Drop for Named {
    fn drop(&mut self) {
        #[expect(clippy::print_stderr, reason = "beside the panic's own message")]
        {
            eprintln!("under {:?}", self.0);
        }
    }
}
