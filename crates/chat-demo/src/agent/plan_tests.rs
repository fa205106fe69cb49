use super::super::memory::Step;
use super::*;

const TASKS: &str = r#"{"tasks":[
    {"task_id":1,"title":"Buy milk","completed":false},
    {"task_id":2,"title":"Buy oat milk","completed":false},
    {"task_id":4,"title":"Call mom","completed":true},
    {"task_id":5,"title":"Call Dad about the steam engine","completed":false},
    {"task_id":6,"title":"tea","completed":false}
]}"#;
const TEA: &str = r#"{"task_id":6,"title":"tea"}"#;

fn turn<'a>(message: &'a str, steps: &[(&'a str, &'a str)]) -> Turn<'a> {
    Turn { message, steps: steps.iter().map(|(tool, result)| Step { tool, result }).collect(), said: "" }
}

/// A turn that has looked at the list, and said what comes of that.
fn looked(message: &str) -> Turn<'_> {
    let turn = turn(message, &[("list_tasks", TASKS)]);
    let said: &str = match next(std::slice::from_ref(&turn)) {
        Next::Say(said) => said.leak(),
        Next::Ask(question) => wording::asked(&question).leak(),
        Next::Call(..) => "",
    };
    Turn { said, ..turn }
}

fn task(id: u64, title: &str) -> Task {
    Task { id, title: title.into(), completed: false }
}

fn call(tool: &'static str, arguments: Value) -> Next {
    Next::Call(tool, arguments)
}

#[test]
fn what_is_wanted_is_called_and_then_told() {
    assert_eq!(next(&[turn("Add task: Tea", &[])]), call("add_task", json!({ "title": "Tea" })));
    let done = turn("Add task: Tea", &[("add_task", TEA)]);
    assert_eq!(next(&[done]), Next::Say("Added 'tea' to your tasks.".into()));
    assert_eq!(next(&[turn("what's left?", &[])]), call("list_tasks", json!({ "status": "pending" })));
    assert_eq!(next(&[turn("delete 7", &[])]), call("delete_task", json!({ "task_id": 7 })));
    assert_eq!(next(&[turn("rename 7 to Tea", &[])]), call("update_task", json!({ "task_id": 7, "title": "Tea" })));
    assert_eq!(next(&[]), Next::Say(wording::HELP.into()));
}

#[test]
fn places_are_those_of_the_list_that_was_shown() {
    let shown = looked("what's on my list?");
    for (message, id) in
        [("complete the first one", 1), ("complete the third one", 4), ("complete the last one", 6), ("complete task 5", 5)]
    {
        let turns = [shown.clone(), turn(message, &[])];
        assert_eq!(next(&turns), call("complete_task", json!({ "task_id": id })), "{message}");
    }
    let beyond = next(&[shown, turn("complete the ninth one", &[])]);
    assert_eq!(beyond, Next::Say("There are only 5 tasks on the list.".into()));
}

#[test]
fn without_a_list_one_is_fetched_first() {
    let list = call("list_tasks", json!({ "status": "all" }));
    for message in ["complete the first one", "delete the last one", "remove oat milk", "mark it as done"] {
        assert_eq!(next(&[turn(message, &[])]), list, "{message}");
    }
    assert_eq!(next(&[looked("complete the second one")]), call("complete_task", json!({ "task_id": 2 })));
    let empty = turn("complete the first one", &[("list_tasks", r#"{"tasks":[]}"#)]);
    assert_eq!(next(&[empty]), Next::Say("You have no tasks yet.".into()));
}

#[test]
fn titles_match_exactly_then_by_whole_words_then_in_part() {
    for (title, id) in [("buy milk", 1), ("BUY OAT MILK", 2), ("oat", 2), ("mom", 4), ("tea", 6), ("team engine", 5), ("engine dad", 5)] {
        assert_eq!(next(&[looked(&format!("delete {title}"))]), call("delete_task", json!({ "task_id": id })), "{title}");
    }
    let said = looked("delete the unicorn").said;
    assert!(said.starts_with("I found no task like 'unicorn'. Your tasks are:\n1. [ ] Buy milk"), "{said}");
}

#[test]
fn what_is_not_clear_is_asked_and_the_answer_understood() {
    let asked = looked("delete milk");
    let milks = vec![task(1, "Buy milk"), task(2, "Buy oat milk")];
    assert_eq!(next(std::slice::from_ref(&asked)), Next::Ask(Question::Which(Change::Delete, milks)));
    for (answer, id) in [("the second one", 2), ("2", 2), ("the last", 2), ("1", 1), ("oat milk", 2), ("I mean buy milk", 1)] {
        let turns = [asked.clone(), turn(answer, &[])];
        assert_eq!(next(&turns), call("delete_task", json!({ "task_id": id })), "{answer}");
    }
    let deleted = turn("the second one", &[("delete_task", r#"{"task_id":2,"title":"Buy oat milk"}"#)]);
    assert_eq!(next(&[asked.clone(), deleted]), Next::Say("Deleted 'Buy oat milk' from your tasks.".into()));
    // Still not clear: asked again, and that question can be answered too.
    let again = turn("milk", &[]);
    assert!(matches!(next(&[asked.clone(), again.clone()]), Next::Ask(Question::Which(Change::Delete, _))));
    assert_eq!(next(&[asked, again, turn("1", &[])]), call("delete_task", json!({ "task_id": 1 })));
    assert_eq!(next(&[turn("hello", &[]), turn("2", &[])]), Next::Say(wording::not_understood()), "nobody asked");
}

#[test]
fn what_is_done_is_not_completed_again_while_another_may_be_meant() {
    assert!(matches!(next(&[looked("complete call")]), Next::Call("complete_task", arguments) if arguments == json!({ "task_id": 5 })));
    assert!(matches!(next(&[looked("delete call")]), Next::Ask(Question::Which(Change::Delete, among)) if among.len() == 2));
}

#[test]
fn it_is_the_task_spoken_of_last() {
    let added = turn("add tea", &[("add_task", TEA)]);
    assert_eq!(next(&[added.clone(), turn("complete it", &[])]), call("complete_task", json!({ "task_id": 6 })));
    assert_eq!(next(&[added.clone(), turn("done!", &[])]), call("complete_task", json!({ "task_id": 6 })));
    let renamed = next(&[added, turn("rename it to green tea", &[])]);
    assert_eq!(renamed, call("update_task", json!({ "task_id": 6, "title": "green tea" })));
    assert!(matches!(next(&[looked("delete it")]), Next::Ask(Question::Which(Change::Delete, among)) if among.len() == 5));
}

#[test]
fn nothing_is_deleted_that_was_not_named() {
    let added = turn("add tea", &[("add_task", TEA)]);
    assert_eq!(next(&[added.clone(), turn("delete", &[])]), call("list_tasks", json!({ "status": "all" })));
    let asked = looked("delete");
    assert!(matches!(next(&[added, asked.clone()]), Next::Ask(Question::Which(Change::Delete, among)) if among.len() == 5));
    assert_eq!(next(&[asked.clone(), turn("the last", &[])]), call("delete_task", json!({ "task_id": 6 })));
    assert_eq!(next(&[asked, turn("never mind", &[])]), Next::Say(wording::AS_IT_IS.into()));
}

#[test]
fn trouble_ends_the_turn() {
    assert_eq!(next(&[turn("delete milk", &[("list_tasks", "Error (unavailable): away")])]), Next::Say(wording::AWAY.into()));
    let unknown = turn("add tea", &[("add_task", "Outcome unknown: lost")]);
    assert!(matches!(next(&[unknown]), Next::Say(said) if said.contains("do not know")));
    let refused = turn("delete 9", &[("delete_task", "Error (failed): There is no task 9.")]);
    assert_eq!(next(&[refused]), Next::Say("That did not work: There is no task 9.".into()));
}

#[test]
fn many_answers_in_a_row_are_no_burden() {
    let mut turns = vec![looked("delete milk")];
    turns.extend((0..5_000).map(|_| turn("milk", &[])));
    assert_eq!(next(&turns), Next::Say(wording::not_understood()));
}

#[test]
fn what_is_not_understood_is_said_first() {
    for message in
        ["", "asdf qwer", "tell me a joke", "¿Qué hay en mi lista?", "Füge Milch hinzu", "买牛奶", "undo", "did you add it?", "🎉", "2"]
    {
        let Next::Say(said) = next(&[turn("hello", &[]), turn(message, &[])]) else { panic!("{message} is nothing to do") };
        assert!(said.starts_with("I did not understand that; I know only simple English.\nI keep your task list."), "{message}: {said}");
    }
    assert_eq!(next(&[turn("help", &[])]), Next::Say(wording::HELP.into()));
    assert_eq!(next(&[turn("mark 2 as not done", &[])]), Next::Say(wording::CANNOT_REOPEN.into()));
}

#[test]
fn its_own_questions_can_be_answered() {
    let (tea, milk) = (turn("add tea", &[("add_task", TEA)]), looked("list"));
    let add = |title: &str| call("add_task", json!({ "title": title }));
    let rename = |id: u64, title: &str| call("update_task", json!({ "task_id": id, "title": title }));
    let delete = |id: u64| call("delete_task", json!({ "task_id": id }));
    for (question, answer, expected) in [
        ("add a task", "Buy oat milk, please", add("Buy oat milk")),
        ("add", "a letter to everybody whom I have met in the last year", add("a letter to everybody whom I have met in the last year")),
        ("add", "\"2\"", add("2")),
        ("add", "add soap", add("soap")),
        ("add", "show my list", call("list_tasks", json!({ "status": "all" }))),
        ("add", "never mind", Next::Say(wording::AS_IT_IS.into())),
        ("add", "did you add it?", Next::Say(wording::not_understood())),
        ("rename task 2", "Green tea", rename(2, "Green tea")),
        ("rename it", "Green tea", rename(6, "Green tea")),
        ("rename", "Green tea", rename(6, "Green tea")),
        ("edit the first one", "the second one", rename(1, "the second one")),
        ("rename task 2", "delete task 5", delete(5)),
    ] {
        let turns = [milk.clone(), tea.clone(), turn(question, &[]), turn(answer, &[])];
        assert!(matches!(next(&turns[..3]), Next::Ask(_)), "{question}");
        assert_eq!(next(&turns), expected, "{question}: {answer}");
    }
    for (answer, expected) in [("the second one", delete(2)), ("5", delete(5)), ("the last", delete(6)), ("oat milk", delete(2))] {
        assert_eq!(next(&[looked("delete the unicorn"), turn(answer, &[])]), expected, "{answer}");
    }
    // An answer may lead to another question.
    let asked = turn("rename milk", &[]);
    let milk = turn("Cream", &[("list_tasks", TASKS)]);
    assert!(matches!(next(&[asked.clone(), milk.clone()]), Next::Ask(Question::Which(Change::Rename(_), among)) if among.len() == 2));
    assert_eq!(next(&[asked, milk, turn("the second", &[])]), rename(2, "Cream"));
}

#[test]
fn only_one_task_is_changed_at_a_time() {
    for (message, example) in [
        ("complete all", "Complete task 2"),
        ("complete 5 and delete 6", "Complete task 2"),
        ("delete tasks 5 and 6", "Delete task 2"),
        ("rename 5 and 6 to tea", "Rename task 2 to Buy oat milk"),
        ("rename 5 and 6", "Rename task 2 to Buy oat milk"),
    ] {
        let expected = format!("I change one task at a time. Tell me which one, for example: {example}");
        assert_eq!(next(&[turn(message, &[])]), Next::Say(expected), "{message}");
    }
}

#[test]
fn what_is_done_already_is_told_and_not_meant_by_another_done() {
    let done = turn("complete tea", &[("complete_task", TEA)]);
    let list = call("list_tasks", json!({ "status": "all" }));
    assert_eq!(next(&[done.clone(), turn("complete", &[])]), list);
    let asked = next(&[done.clone(), looked("complete")]);
    assert!(matches!(asked, Next::Ask(Question::Which(Change::Complete, among)) if among.iter().all(|task| !task.completed)));
    assert_eq!(next(&[done.clone(), turn("complete it", &[])]), call("complete_task", json!({ "task_id": 6 })));
    let already = r#"{"task_id":6,"title":"tea","status":"completed","already":true}"#;
    let again = turn("complete it", &[("complete_task", already)]);
    assert_eq!(next(&[done.clone(), again]), Next::Say("'tea' was done already.".into()));
    let all_done = turn("done", &[("list_tasks", r#"{"tasks":[{"task_id":6,"title":"tea","completed":true}]}"#)]);
    assert_eq!(next(&[done, all_done]), Next::Say(wording::NOTHING_LEFT.into()));
}
