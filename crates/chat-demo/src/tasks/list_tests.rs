use super::*;

struct Fixture {
    file: tempfile::TempDir,
    tasks: TaskList,
}

impl Fixture {
    async fn new() -> Self {
        let file = tempfile::tempdir().unwrap();
        let tasks = TaskList::open(&file.path().join("tasks.db")).await.unwrap();
        Self { file, tasks }
    }

    async fn reopen(&mut self) {
        self.tasks = TaskList::open(&self.file.path().join("tasks.db")).await.unwrap();
    }

    async fn ask(&self, user: &str, call: Option<&str>, request: Request) -> Result<Value, String> {
        let caller = Caller { user: user.into(), call: call.map(str::to_owned) };
        self.tasks.carry_out(&caller, &request).await.map_err(|error| match error {
            TaskError::Refused(why) => why,
            TaskError::Database(error) => panic!("{error}"),
        })
    }

    async fn add(&self, user: &str, title: &str) -> Result<Value, String> {
        self.ask(user, None, Request::Add { title: title.into() }).await
    }

    async fn titles(&self, user: &str, status: Status) -> Vec<String> {
        let list = self.ask(user, None, Request::List { status }).await.unwrap();
        list["tasks"].as_array().unwrap().iter().map(|task| task["title"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn a_task_lives_from_add_to_delete() {
    let list = Fixture::new().await;
    assert_eq!(list.add("ann", " Buy milk ").await.unwrap(), json!({ "task_id": 1, "status": "created", "title": "Buy milk" }));
    assert_eq!(list.add("ann", "Call mom").await.unwrap()["task_id"], 2);
    let done = list.ask("ann", None, Request::Complete { task_id: 1 }).await.unwrap();
    assert_eq!(done, json!({ "task_id": 1, "status": "completed", "title": "Buy milk" }));
    let again = list.ask("ann", None, Request::Complete { task_id: 1 }).await.unwrap();
    assert_eq!(again, json!({ "task_id": 1, "status": "completed", "title": "Buy milk", "already": true }));
    let renamed = list.ask("ann", None, Request::Update { task_id: 2, title: "Call dad".into() }).await.unwrap();
    assert_eq!(renamed, json!({ "task_id": 2, "status": "updated", "title": "Call dad" }));
    let all = list.ask("ann", None, Request::List { status: Status::All }).await.unwrap();
    let expected = json!({ "tasks": [
        { "task_id": 1, "title": "Buy milk", "completed": true }, { "task_id": 2, "title": "Call dad", "completed": false }
    ] });
    assert_eq!(all, expected);
    assert_eq!(list.titles("ann", Status::Pending).await, ["Call dad"]);
    assert_eq!(list.titles("ann", Status::Completed).await, ["Buy milk"]);
    let deleted = list.ask("ann", None, Request::Delete { task_id: 1 }).await.unwrap();
    assert_eq!(deleted, json!({ "task_id": 1, "status": "deleted", "title": "Buy milk" }));
    assert_eq!(list.titles("ann", Status::All).await, ["Call dad"]);
}

#[tokio::test]
async fn users_are_kept_apart_and_each_counts_from_one() {
    let list = Fixture::new().await;
    assert_eq!(list.add("ann", "Ann's").await.unwrap()["task_id"], 1);
    assert_eq!(list.add("bob", "Bob's").await.unwrap()["task_id"], 1);
    list.add("ann", "Ann's second").await.unwrap();
    assert_eq!(list.ask("bob", None, Request::Delete { task_id: 2 }).await.unwrap_err(), "There is no task 2 on the list.");
    assert_eq!(list.titles("bob", Status::All).await, ["Bob's"]);
    assert_eq!(list.titles("eve", Status::All).await, [""; 0]);
}

#[tokio::test]
async fn numbers_are_never_given_twice() {
    let list = Fixture::new().await;
    for title in ["one", "two"] {
        list.add("ann", title).await.unwrap();
    }
    list.ask("ann", None, Request::Delete { task_id: 2 }).await.unwrap();
    assert_eq!(list.add("ann", "three").await.unwrap()["task_id"], 3);
    for gone in [Request::Delete { task_id: 2 }, Request::Complete { task_id: 2 }, Request::Update { task_id: 2, title: "x".into() }] {
        assert_eq!(list.ask("ann", None, gone).await.unwrap_err(), "There is no task 2 on the list.");
    }
}

#[tokio::test]
async fn a_repeated_call_gives_the_first_answer_and_does_nothing() {
    let mut list = Fixture::new().await;
    let add = Request::Add { title: "Buy milk".into() };
    let first = list.ask("ann", Some("c1"), add.clone()).await.unwrap();
    list.reopen().await;
    assert_eq!(list.ask("ann", Some("c1"), add.clone()).await.unwrap(), first);
    let rename = Request::Update { task_id: 1, title: "A".into() };
    let renamed = list.ask("ann", Some("c2"), rename.clone()).await.unwrap();
    list.ask("ann", Some("c3"), Request::Update { task_id: 1, title: "B".into() }).await.unwrap();
    assert_eq!(list.ask("ann", Some("c2"), rename).await.unwrap(), renamed);
    assert_eq!(list.titles("ann", Status::All).await, ["B"], "a late repetition does not undo what came after it");
    for _ in 0..2 {
        assert_eq!(list.ask("ann", Some("c4"), Request::Delete { task_id: 1 }).await.unwrap()["status"], "deleted");
    }
    assert_eq!(list.ask("bob", Some("c1"), add).await.unwrap()["task_id"], 1, "another user's call is another call");
}

#[tokio::test]
async fn every_call_is_on_record() {
    let list = Fixture::new().await;
    list.ask("ann", Some("c1"), Request::Add { title: "x".into() }).await.unwrap();
    list.ask("ann", Some("c1"), Request::Add { title: "x".into() }).await.unwrap();
    list.ask("bob", Some("c2"), Request::Delete { task_id: 9 }).await.unwrap_err();
    list.ask("bob", None, Request::List { status: Status::All }).await.unwrap();
    let mut connection = list.tasks.options.connect().await.unwrap();
    let calls: Vec<(Option<String>, String, String)> =
        sqlx::query_as("SELECT call_id, user_id, tool FROM calls ORDER BY sequence").fetch_all(&mut connection).await.unwrap();
    let call = |id: Option<&str>, user: &str, tool: &str| (id.map(str::to_owned), user.to_owned(), tool.to_owned());
    let expected = [
        call(Some("c1"), "ann", "add_task"),
        call(Some("c1"), "ann", "add_task"),
        call(Some("c2"), "bob", "delete_task"),
        call(None, "bob", "list_tasks"),
    ];
    assert_eq!(calls, expected);
}

#[tokio::test]
async fn titles_are_bounded() {
    let list = Fixture::new().await;
    assert!(list.add("ann", &"é".repeat(200)).await.is_ok());
    let too_long = list.add("ann", &"é".repeat(201)).await.unwrap_err();
    assert_eq!(too_long, "The title has 201 characters. At most 200 are allowed.");
    assert_eq!(list.add("ann", " \n ").await.unwrap_err(), "A task needs a title.");
    assert_eq!(list.add("ann", "two\nlines").await.unwrap_err(), "A title is one line of plain text.");
    let rename = Request::Update { task_id: 1, title: String::new() };
    assert_eq!(list.ask("ann", None, rename).await.unwrap_err(), "A task needs a title.");
}

#[tokio::test]
async fn a_list_that_is_full_takes_no_more() {
    let list = Fixture::new().await;
    for n in 0..MOST_TASKS {
        list.add("ann", &format!("task {n}")).await.unwrap();
    }
    assert!(list.add("ann", "one more").await.unwrap_err().starts_with("The list is full"));
    assert!(list.add("bob", "his first").await.is_ok());
    list.ask("ann", None, Request::Delete { task_id: 1 }).await.unwrap();
    assert!(list.add("ann", "one more").await.is_ok());
}

#[tokio::test]
async fn after_a_failure_of_the_file_it_works_again() {
    let list = Fixture::new().await;
    list.add("ann", "kept").await.unwrap();
    let mut saboteur = list.tasks.options.connect().await.unwrap();
    saboteur.execute("ALTER TABLE calls RENAME TO hidden").await.unwrap();
    let caller = Caller { user: "ann".into(), call: None };
    let failed = list.tasks.carry_out(&caller, &Request::Add { title: "lost".into() }).await;
    assert!(matches!(failed, Err(TaskError::Database(_))));
    saboteur.execute("ALTER TABLE hidden RENAME TO calls").await.unwrap();
    list.add("ann", "works").await.unwrap();
    assert_eq!(list.titles("ann", Status::All).await, ["kept", "works"]);
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;

    let list = Fixture::new().await;
    list.add("ann", "secret").await.unwrap();
    let mode = |name: &str| std::fs::metadata(list.file.path().join(name)).unwrap().permissions().mode() & 0o777;
    for name in ["tasks.db", "tasks.db-wal", "tasks.db-shm"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    let shared = list.file.path().join("shared.db");
    std::fs::write(&shared, "").unwrap();
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o640)).unwrap();
    TaskList::open(&shared).await.unwrap();
    assert_eq!(mode("shared.db"), 0o640, "a file that is there is left as it is");
}
