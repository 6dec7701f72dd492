# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The public Python API: ``Recommender`` takes clicks and gives lists, measured and served."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddlerec_milvus.api.fitting import Fitting
from paddlerec_milvus.api.frames import Frame, in_library
from paddlerec_milvus.api.held_out_clicks import held_out_users
from paddlerec_milvus.api.histories import histories_of
from paddlerec_milvus.api.measures import Measures
from paddlerec_milvus.api.opened_model import OpenedModel
from paddlerec_milvus.api.python_words import option_texts, python_call, quiet_import
from paddlerec_milvus.api.stored_items import open_index
from paddlerec_milvus.api.trained_run import find_run
from paddlerec_milvus.data.prepared import open_prepared
from paddlerec_milvus.data.split import DEFAULT_MIN_COUNT
from paddlerec_milvus.data.split_choice import USERS, SplitChoice, moment_of
from paddlerec_milvus.errors import SettingsError, UserError
from paddlerec_milvus.ranking.files import RankerKind
from paddlerec_milvus.retrieval.base import FloatArray

if TYPE_CHECKING:
    from paddlerec_milvus.serving.background import BackgroundServer

Options = Mapping[str, Any] | Sequence[str]


class Recommender(OpenedModel):
    """A trained recall model, its item vectors in Milvus, and lists for users.

    ```python
    rec = Recommender.fit(clicks, items=books)  # or Recommender.load("output/mind-1")
    rec.index("milvus.db")
    rec.recommend([["B001", "B007"]], k=10, exclude_history=True)
    ```

    Ids are the log's own, ints or strings. Whatever cannot be done raises a ``UserError`` that says
    what to do (``paddlerec_milvus.errors``). A context manager, which lets go of Milvus.
    """

    @classmethod
    def fit(
        cls,
        clicks: Frame | str | Path,
        model: str = "mind",
        *,
        items: Frame | str | Path | None = None,
        columns: Mapping[str, str] | None = None,
        options: Options = (),
        seed: int | None = None,
        split: str = USERS,
        test_from: str | date | None = None,
        min_count: int = DEFAULT_MIN_COUNT,
        string_ids: bool = False,
        folder: str | Path | None = None,
        resume: bool = False,
    ) -> Recommender:
        """Prepare ``clicks`` and train ``model`` on them, as prepare.py and tools/trainer.py do.

        Args:
            clicks: a data frame of pandas or polars, a click a row: users, items, and times, or
                else the order of rows counts. Ids are integers (of items from 1), strings or
                UUIDs (as strings). Or the file of a log, or a folder that prepare.py wrote.
            model: the name of a folder in models/recall, or the path of one, or of its yaml.
            items: a data frame, or a csv, with the columns item, title and perhaps category.
            columns: which column is what, unless they are called user, item, time, or much the
                same: ``{"user": "visitor", "item": "sku"}``.
            options: over the model's yaml: ``{"runner.epochs": 3}``, or texts as ``-o`` takes.
            seed: of the split and of training; None: those of prepare.py and of the yaml.
            split: ``users``: 8 of 10 train, the others are measured; ``leave-one-out``: all users
                train, their last two clicks are measured; ``time``: clicks from ``test_from`` on.
            test_from: a date such as ``2024-07-01``, of split ``time``.
            min_count: items, then users, with fewer clicks are dropped.
            string_ids: take all ids as strings.
            folder: of the run, for the prepared log and a checkpoint of every epoch; ``load``
                opens it. None: ``output/mind-1`` here, or the next number that is free.
            resume: go on where a run in ``folder`` was stopped.

        Returns:
            the epoch that did best on the valid users, else the last.

        Raises:
            DataError: the clicks cannot be used, or the folder cannot be written.
            SettingsError: an option or a column that is not there.
        """
        with python_call(progress=True):
            moment = None if test_from is None else str(test_from)
            choice = SplitChoice(split, moment_of("--test-from", moment))
            log = (clicks, model, items, columns, string_ids, min_count, choice)
            return cls(Fitting(*log, options, seed, folder, resume).run())

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        model: str | None = None,
        data: str | Path | None = None,
        epoch: int | str = "",
    ) -> Recommender:
        """Open what ``fit`` or ``save`` left in ``folder``, or tools/trainer.py.

        Args:
            folder: of the run; of the trainer's its checkpoints (``runner.model_save_path``).
            model: the model's folder or yaml, where it is none of the zoo's.
            data: the prepared folder, where it has moved.
            epoch: a number, or ``best``; empty: the best, where there is none the last.

        Raises:
            CheckpointError: nothing trained is there, by another version, or of other data.
            DataError: the data that it was trained on is not there.
        """
        with python_call():
            place = None if data is None else Path(data)
            return cls(find_run(Path(folder).absolute(), model, place, str(epoch)))

    def index(
        self,
        uri: str | Path | None = None,
        *,
        type: str | None = None,
        token: str = "",
        options: Options = (),
        rebuild: bool = False,
        **parameters: int | str,
    ) -> Recommender:
        """Put the item vectors into Milvus and search there from now on.

        Vectors of this very model that lie there with this index are used as they are.

        Args:
            uri: a path that ends in ``.db`` (Milvus Lite), or a server's address. None:
                ``MILVUS_URI``, else ``milvus.db`` in the working folder.
            type: of the index: FLAT, IVF_FLAT, HNSW …; None: the model's yaml.
            token: ``user:password`` or an API key; empty: ``MILVUS_TOKEN``.
            options: further settings, ``{"milvus.collection": "mine"}``.
            rebuild: store the vectors anew, whatever is there.
            **parameters: of the index, in Milvus' words: ``M=16, ef=128``, ``nlist=256``.

        Returns:
            itself.

        Raises:
            SettingsError: a parameter that the index does not have, or a value out of range.
            RetrievalError: Milvus is away or refuses, or the collection is of other data.
        """
        with python_call(progress=True):
            named: dict[str, Any] = {f"index.{key}": value for key, value in parameters.items()}
            named |= {} if type is None else {"index.type": type}
            if uri is not None or not os.environ.get("MILVUS_URI"):
                named["milvus.uri"] = str(uri or "milvus.db")
            named |= {"milvus.token": token} if token else {}
            settings = self._run.settings(*option_texts(named), *option_texts(options))
            retriever = open_index(self._model, settings, rebuild=rebuild)
            self.close()
            self._retriever, self.settings = retriever, settings
        return self

    def rank(
        self,
        ranker: RankerKind = "din",
        *,
        lists: int = 12_000,
        rounds: int = 200,
        seed: int = 1,
    ) -> Recommender:
        """Train channels and a ranker for this model, as tools/rank.py does: ``recommend`` ranks.

        They learn from the valid users of the split, whom the model has not seen, and lie beside
        its checkpoint: ``load`` finds them there, ``save`` copies them. ``ranker`` is ``din``, the
        network DIN, or ``trees``; fewer ``lists`` to learn from and ``rounds`` (epochs of DIN) take
        less time. ``seed`` is that of lists and ranker.

        Returns:
            itself.

        Raises:
            SettingsError: the metric is not IP, or ``lists`` or ``rounds`` is below 1.
            DataError: there are no valid users, too few, or the model has seen their later clicks.
        """
        with python_call(progress=True):
            self._model.train_ranker(ranker, lists, rounds, seed)
        return self

    def recommend(
        self,
        histories: Any,
        k: int = 10,
        *,
        exclude_history: bool | None = None,
        columns: Mapping[str, str] | None = None,
        ranked: bool | None = None,
        explain: bool = False,
    ) -> Frame:
        """The ``k`` best items for each user.

        Once there is a ranker (``rank``) they come from several channels and are in its order, and
        none is an item that the user has clicked; ``ranked=False`` gives the model's own order.

        Ids that the model does not know are left out of a history, and a warning names them. A
        history without any known item gets popular items, which have no score and no interest.

        Args:
            histories: B lists of item ids, oldest click first; or a dict of user to such lists; or
                a data frame of clicks, as ``fit`` takes it.
            k: from 1 to the number of items.
            exclude_history: leave out what the user has clicked; None: as the settings say
                (``retrieval.exclude_history``).
            columns: of a data frame, see ``fit``.
            ranked: by the ranker; None: if there is one.
            explain: say of ranked items why they stand where they do, in four columns more.

        Returns:
            a data frame, at most B x k rows, best first: ``user``; ``item``; ``title``, where there
            is one; ``score`` float32, larger is better (of metric L2 the negated squared distance;
            of a ranked list the ranker's); ``rank`` int64 from 1; ``interest`` int64 from 0, which
            of the K interests found it, or is nearest to it. With ``explain``: ``unranked``, its
            place in the model's own order; ``channels``, which had it and at which place;
            ``follows``, the click after which it is clicked most; ``why``, the three groups of
            features that moved its score most, of the first 50 items.

        Raises:
            DataError: ids of another type than the log's.
            SettingsError: ``k`` is no integer, or above the number of items.
            UserError: ``index`` was not called, or there is no ranker, or it does not fit.
        """
        with python_call():
            retriever, model = self._searched(), self._model
            if explain and ranked is False:
                raise SettingsError("explain is of ranked lists: leave it out, or ranked=False")
            ranking = self._ranking(True if explain else ranked, exclude_history)
            k = model.list_length(k)
            users = histories_of(histories, model.ids.items, columns)
            numbers, exclude = model.known(users.items), self._excludes(exclude_history)
            library = users.library or self._run.description.library
            if ranking is None:
                lists = model.candidates(retriever, numbers, k, exclude=exclude)
                return in_library(model.list_frame(users, lists), library)
            with quiet_import():
                from paddlerec_milvus.api.ranked_lists import ranked_frame, ranked_lists
            best = ranked_lists(model, ranking, retriever, numbers, k, explain=explain)
            return in_library(ranked_frame(model, users, best, k, explain=explain), library)

    def interests(self, histories: Any, *, columns: Mapping[str, str] | None = None) -> FloatArray:
        """The interests [B, K, D] float32 of B ``histories``, as ``recommend`` takes them.

        Those of a history without a known item are 0.
        """
        with python_call():
            users = histories_of(histories, self._model.ids.items, columns)
            return self._model.interests(self._model.known(users.items))

    def evaluate(
        self,
        test: Any = None,
        metrics: Sequence[str] | None = None,
        *,
        history: Any = None,
        exact: bool = False,
        exclude_history: bool | None = None,
        columns: Mapping[str, str] | None = None,
        ranked: bool = False,
    ) -> dict[str, float]:
        """How good lists are for what users clicked later, as tools/infer.py measures it.

        Args:
            test: later clicks of users, as ``recommend`` takes histories. None: the test users
                of the split that ``fit`` made.
            metrics: such as ``recall@50``, ``ndcg@10``: recall, ndcg, ndcg_hits, hitrate and, of
                the longest list, index_recall. None: all of them at 50.
            history: what users had clicked before; None: all clicks of the log that was fitted.
                Users without any cannot be measured, and a warning says how many.
            exact: search all vectors instead of the index.
            exclude_history: see ``recommend``.
            columns: of data frames, see ``fit``.
            ranked: measure lists before and after ranking, both without the history: each metric
                ``recall@50`` has one ``ranked_recall@50`` beside it.

        Returns:
            each metric, 0 to 1, the mean over users. Clicks on what is no item of the model stay in
            the denominator. index_recall is the share of the exact list that the index returns.

        Raises:
            SettingsError: a metric that is not known.
            DataError: the clicks cannot be used.
            UserError: ``index`` was not called, and ``exact`` is not set; or there is no ranker.
        """
        with python_call():
            ranking = self._ranking(ranked, exclude_history)
            measures = Measures.parse(metrics, self._model.total, indexed=not exact)
            retriever = None if exact else self._searched()
            users = None
            if test is not None or history is not None:
                prepared = open_prepared(self._run.data)
                users = held_out_users(test, history, prepared, self._model.ids, columns)
            without = ranked or self._excludes(exclude_history)
            exclude = {"exclude_history": without}
            retrieval = self.settings.retrieval.model_copy(update=exclude)
            settings = self.settings.model_copy(update={"retrieval": retrieval})
            model = self._model.on_disk._replace(settings=settings)
            return measures.measure(model, retriever, users, ranking)

    def save(self, folder: str | Path) -> None:
        """Copy the model and its prepared log to ``folder``, whole or not at all.

        An earlier copy there is replaced, anything else is left alone. The vectors stay in Milvus;
        a ranker goes with the model.

        Raises:
            DataError: ``folder`` holds something else, or cannot be written.
        """
        with python_call():
            _ = self._model.on_disk
            self._run.copy_to(Path(folder))

    def serve(
        self, port: int = 8000, *, host: str = "127.0.0.1", keys: str = "", block: bool = True
    ) -> BackgroundServer:
        """Serve lists over HTTP, with a page, from the index that was opened.

        ``block`` stays until Ctrl-C; without it the service goes on in a thread. ``port`` 0 takes a
        free one. A ``host`` that others can reach needs ``keys``, written as in ``SERVING_KEYS``.

        Returns:
            the server, with ``url`` and ``stop()``.

        Raises:
            SettingsError: the port is in use.
            UserError: ``index`` was not called, or the extra ``serve`` is not installed.
        """
        with python_call():
            self._searched()
            try:
                with quiet_import():
                    from paddlerec_milvus.serving.background import serve_model
            except ImportError as error:
                raise UserError(str(error)) from None
            model = self._model.on_disk._replace(settings=self.settings)
            server = serve_model(model, host, port, keys)
            if block:
                server.wait()
            return server
