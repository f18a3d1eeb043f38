//! The seam where a test plays the others that change a tree: what it does happens between any two steps of this crate's
//! work on paths, as if a container had found the moment.
//!
//! A race by a second thread finds some moments, and others on another day; here each is had, and the same ones again.

use std::cell::RefCell;

/// What is done between steps.
type Others = Box<dyn FnMut()>;

thread_local! {
    /// Production has none.
    static OTHERS: RefCell<Option<Others>> = const { RefCell::new(None) };
}

/// Runs something, in this thread, with others at work between its steps.
pub fn with_others<T>(others: impl FnMut() + 'static, run: impl FnOnce() -> T) -> T {
    /// Ends the others' work, also when a test fails.
    struct Until;
    impl Drop for Until {
        fn drop(&mut self) {
            OTHERS.set(None);
        }
    }
    OTHERS.set(Some(Box::new(others)));
    let _until = Until;
    run()
}

/// Lets the others work, if there are some. What they do on paths themselves has no others.
pub(crate) fn others_work() {
    let Some(mut others) = OTHERS.take() else { return };
    others();
    OTHERS.set(Some(others));
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn others_work_at_every_step_and_no_longer_than_they_are_asked_to() {
        let steps = Rc::new(Cell::new(0));
        let counted = steps.clone();
        let others = move || {
            counted.set(counted.get() + 1);
            others_work();
        };
        with_others(others, || {
            others_work();
            others_work();
        });
        others_work();
        assert_eq!(steps.get(), 2);
    }
}
